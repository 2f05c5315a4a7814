#include "datasets/file_content.h"
#include "datasets/label_table.h"
#include "datasets/loaders.h"
#include "datasets/npy_array.h"
#include "experiments/error.h"

// The format of the MNIST family: two zero bytes, the type, the number of dimensions, each dimension and the
// data, all big-endian; plain or gzip.
namespace tenfold {
namespace {

constexpr std::int64_t kMaxValues = std::int64_t{1} << 36;  // no image set comes near
constexpr std::size_t kMaxHeaderBytes = 4 + 4 * 4;

struct IdxFile {
  explicit IdxFile(const std::string& file) : mapped(map_file(file)) {
    std::span<const std::byte> bytes = mapped.bytes;
    if (!is_gzip(bytes)) {
      parse_header(bytes, file);
    } else {
      // The header tells how much there can be, so that a small file cannot inflate to fill the memory.
      parse_header(gunzip_begin(bytes, kMaxHeaderBytes, file), file);
      inflated = gunzip(bytes, header_bytes + data_bytes, file);
      bytes = inflated;
    }
    array.data = bytes.subspan(header_bytes);
    if (array.data.size() != data_bytes)
      throw Error(ErrorKind::data, file + ": has " + std::to_string(array.data.size()) +
                                       " bytes of data where its header asks for " + std::to_string(data_bytes));
  }

  void parse_header(std::span<const std::byte> bytes, const std::string& file) {
    const auto fail = [&](const std::string& what) { throw Error(ErrorKind::data, file + ": " + what); };
    const auto byte = [&](std::size_t i) { return std::to_integer<std::uint32_t>(bytes[i]); };
    if (bytes.size() < 4 || byte(0) != 0 || byte(1) != 0)
      fail("is not an idx file (it does not begin with two zero bytes)");
    array.name = file;
    array.big_endian = true;
    set_type(byte(2), file);
    const std::uint32_t rank = byte(3);
    if (rank < 1 || rank > 4) fail("has " + std::to_string(rank) + " dimensions; 1 to 4 are known");
    header_bytes = 4 + 4 * std::size_t{rank};
    if (bytes.size() < header_bytes) fail("ends inside its header");
    for (std::size_t at = 4; at < header_bytes; at += 4)
      array.shape.push_back(std::int64_t{byte(at) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3)});
    data_bytes = static_cast<std::size_t>(checked_elements(array.shape, kMaxValues, file)) * array.item_bytes;
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
  std::size_t header_bytes = 0, data_bytes = 0;
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
