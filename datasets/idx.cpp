#include <optional>

#include "datasets/file_content.h"
#include "datasets/label_table.h"
#include "datasets/loaders.h"
#include "datasets/npy_array.h"
#include "experiments/error.h"

// The format of the MNIST family: two zero bytes, the type, the number of dimensions, each dimension and the
// data, all big-endian; plain or gzip.
namespace tenfold {
namespace {

// No image set comes near, and a file of a few bytes cannot claim more than this.
constexpr std::uint64_t kMaxBytes = std::uint64_t{1} << 36;
constexpr std::uint64_t kMaxDeflateRatio = 1032;

struct IdxFile {
  IdxFile(const std::string& file) : mapped(map_file(file)) {
    std::span<const std::byte> bytes = mapped.bytes;
    if (is_gzip(bytes)) {
      inflated = gunzip(bytes, std::min(kMaxBytes, (bytes.size() + 1) * kMaxDeflateRatio), file);
      bytes = inflated;
    }
    parse(bytes, file);
  }

  void parse(std::span<const std::byte> bytes, const std::string& file) {
    const auto fail = [&](const std::string& what) { throw Error(ErrorKind::data, file + ": " + what); };
    const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
    if (bytes.size() < 4 || byte(0) != 0 || byte(1) != 0)
      fail("is not an idx file (it does not begin with two zero bytes)");
    array.name = file;
    array.big_endian = true;
    set_type(byte(2), file);
    const unsigned rank = byte(3);
    if (rank < 1 || rank > 4) fail("has " + std::to_string(rank) + " dimensions; 1 to 4 are known");
    const std::size_t header = 4 + 4 * std::size_t{rank};
    if (bytes.size() < header) fail("ends inside its header");
    for (std::size_t at = 4; at < header; at += 4)
      array.shape.push_back(std::int64_t{byte(at)} << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3));
    array.data = bytes.subspan(header);
    const std::int64_t count =
        checked_elements(array.shape, static_cast<std::int64_t>(array.data.size() / array.item_bytes), file);
    if (static_cast<std::size_t>(count) * array.item_bytes != array.data.size())
      fail("has " + std::to_string(array.data.size()) + " bytes of data where its header asks for " +
           std::to_string(static_cast<std::size_t>(count) * array.item_bytes));
  }

  void set_type(unsigned type, const std::string& file) {
    switch (type) {
      case 0x08:
        array.kind = 'u', array.item_bytes = 1;
        return;
      case 0x09:
        array.kind = 'i', array.item_bytes = 1;
        return;
      case 0x0B:
        array.kind = 'i', array.item_bytes = 2;
        return;
      case 0x0C:
        array.kind = 'i', array.item_bytes = 4;
        return;
      case 0x0D:
        array.kind = 'f', array.item_bytes = 4;
        return;
      case 0x0E:
        array.kind = 'f', array.item_bytes = 8;
        return;
      default:
        throw Error(ErrorKind::data, file + ": holds values of an unknown type (" + std::to_string(type) + ")");
    }
  }

  MappedFile mapped;
  std::vector<std::byte> inflated;
  RawArray array;
};

}  // namespace

Dataset::Parts load_idx(const DatasetSpec& spec) {
  if (spec.path.empty()) throw Error(ErrorKind::config, "dataset.path: name the idx file with the samples");
  if (spec.labels.empty()) throw Error(ErrorKind::config, "dataset.labels: name the idx file with the labels");
  const IdxFile samples(spec.path), labels(spec.labels);
  Dataset::Parts parts;
  parts.sample_shape = sample_shape_of(samples.array);
  NamedCodes classes = to_codes(labels.array, samples.array.shape[0]);
  require_classes(classes.names.size(), samples.array.shape[0], spec.labels);
  parts.labels = std::move(classes.codes);
  parts.class_names = std::move(classes.names);
  parts.samples = to_floats(samples.array);
  return parts;
}

}  // namespace tenfold
