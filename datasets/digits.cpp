#include <algorithm>

#include "datasets/file_content.h"
#include "datasets/loaders.h"
#include "experiments/error.h"

// The UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin, Kaynak 1998) in the file that
// scikit-learn ships: 1,797 lines of 64 pixels (0..16, an 8 x 8 image by rows) and the digit.
namespace tenfold {
namespace {

constexpr const char* kSha256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22";
constexpr std::uint64_t kMaxBytes = 1 << 20;
constexpr std::int64_t kSamples = 1797, kPixels = 64;

std::vector<int> parse_numbers(std::string_view text, const std::string& name) {
  std::vector<int> numbers;
  numbers.reserve(kSamples * (kPixels + 1));
  int value = 0, digits = 0;
  for (const char c : text) {
    if (c >= '0' && c <= '9' && digits < 2) {
      value = 10 * value + (c - '0');
      ++digits;
    } else if ((c == ',' || c == '\n') && digits > 0) {
      numbers.push_back(value);
      value = digits = 0;
    } else if (c != '\r') {
      throw Error(ErrorKind::data, name + ": is not the digits file; delete it and run ./tenfold setup");
    }
  }
  return numbers;
}

}  // namespace

Dataset::Parts load_digits() {
  const std::filesystem::path file = cache_folder() / "data" / "digits.csv.gz";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored))
    throw Error(ErrorKind::data, file.string() + ": the digits are not there; run ./tenfold setup, which fetches them");
  const MappedFile mapped = map_file(file);
  if (sha256(mapped.text()) != Digest::from_hex(kSha256))
    throw Error(ErrorKind::data,
                file.string() + ": is not the digits file (its SHA-256 differs); delete it and run ./tenfold setup");
  const std::vector<std::byte> bytes = gunzip(mapped.bytes, kMaxBytes, file.string());
  const std::vector<int> numbers =
      parse_numbers({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, file.string());
  if (static_cast<std::int64_t>(numbers.size()) != kSamples * (kPixels + 1))
    throw Error(ErrorKind::data, file.string() + ": holds another number of samples than the digits have");

  Dataset::Parts parts;
  parts.sample_shape = {1, 8, 8};
  parts.samples.reserve(kSamples * kPixels);
  parts.labels.reserve(kSamples);
  for (std::int64_t i = 0; i < kSamples; ++i) {
    const int* line = numbers.data() + i * (kPixels + 1);
    parts.samples.insert(parts.samples.end(), line, line + kPixels);
    parts.labels.push_back(line[kPixels]);
  }
  for (int digit = 0; digit < 10; ++digit) parts.class_names.push_back(std::to_string(digit));
  return parts;
}

}  // namespace tenfold
