#include "datasets/hdf5_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>

#include "datasets/label_table.h"
#include "datasets/natural_order.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::uint64_t kMaxChunkBytes = std::uint64_t{1} << 28;
constexpr std::uint64_t kFreeChunkBytes = std::uint64_t{1} << 22;
constexpr std::size_t kMaxText = 4096;
// No filter of the library makes more of a stored byte; a file that says so would fill memory with nothing.
constexpr std::uint64_t kMostFromOneByte = 2000;

// What the walk over a file finds lying elsewhere. Called from C: nothing may be thrown through it.
struct Walk {
  char place[256] = "";
  const char* what = nullptr;
  bool size = false;  // it is no stranger, but too large to be true
  void too_large(const char* name) noexcept {
    found(name, "");
    size = true;
  }
  void found(const char* name, const char* finding) noexcept {
    what = finding;
    std::size_t i = 0;
    for (; name[i] != '\0' && i + 1 < sizeof place; ++i) place[i] = name[i];
    place[i] = '\0';
  }
};

// Whether what a dataset has stored can be what it says it holds.
bool declares_too_much(hid_t dataset) {
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose), space(H5Dget_space(dataset), H5Sclose);
  if (!type.sound() || !space.sound()) return true;
  hsize_t shape[H5S_MAX_RANK];
  const int rank = H5Sget_simple_extent_dims(space.id(), shape, nullptr);
  std::uint64_t bytes = H5Tget_size(type.id());
  if (rank < 0 || bytes == 0) return true;
  if (H5Sget_simple_extent_type(space.id()) == H5S_NULL) return false;
  for (int i = 0; i < rank; ++i) {
    if (shape[i] == 0) return false;
    if (bytes > std::uint64_t{INT64_MAX} / shape[i]) return true;
    bytes *= shape[i];
  }
  return bytes / kMostFromOneByte > H5Dget_storage_size(dataset);
}

extern "C" herr_t tenfold_check_link(hid_t, const char* name, const H5L_info_t* info, void* data) {
  if (info->type == H5L_TYPE_HARD) return 0;
  static_cast<Walk*>(data)->found(name, info->type == H5L_TYPE_SOFT ? "a soft link" : "a link to another file");
  return 1;
}

extern "C" herr_t tenfold_check_object(hid_t root, const char* name, const H5O_info_t* info, void* data) {
  if (info->type != H5O_TYPE_DATASET) return 0;
  const Hdf5Handle dataset(H5Dopen2(root, name, H5P_DEFAULT), H5Dclose);
  const Hdf5Handle made(dataset.sound() ? H5Dget_create_plist(dataset.id()) : -1, H5Pclose);
  auto* const walk = static_cast<Walk*>(data);
  if (!made.sound()) {
    walk->found(name, "a dataset that cannot be opened");
  } else if (H5Pget_layout(made.id()) == H5D_VIRTUAL) {
    walk->found(name, "a virtual dataset, made of other files");
  } else if (H5Pget_external_count(made.id()) > 0) {
    walk->found(name, "a dataset whose values lie in another file");
  } else if (declares_too_much(dataset.id())) {
    walk->too_large(name);
  }
  return walk->what != nullptr ? 1 : 0;
}

extern "C" herr_t tenfold_collect_group(hid_t root, const char* name, const H5L_info_t*, void* data) {
  H5O_info_t info;
  if (H5Oget_info_by_name2(root, name, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0) return -1;
  if (info.type != H5O_TYPE_GROUP) return 0;
  try {
    static_cast<std::vector<std::string>*>(data)->emplace_back(name);
  } catch (const std::bad_alloc&) {
    return -1;
  }
  return 0;
}

hid_t open_file(const std::string& path) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // Room for a trial's chunks: columns are read range by range, and are not to be unpacked anew for each.
  H5Pset_cache(access.id(), 0, 521, std::size_t{64} << 20, 1.0);
  H5Pset_fclose_degree(access.id(), H5F_CLOSE_STRONG);
  return H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id());
}

// Numbers whose bits lie within their bytes: the library copies bits from wherever a type says they are.
bool is_sound_number(hid_t type) {
  const H5T_class_t kind = H5Tget_class(type);
  const std::size_t bytes = H5Tget_size(type), bits = H5Tget_precision(type);
  const int offset = H5Tget_offset(type);
  if ((kind != H5T_FLOAT && kind != H5T_INTEGER) || bytes == 0 || bytes > 8 || bits == 0 || bits > 8 * bytes ||
      offset < 0 || static_cast<std::size_t>(offset) > 8 * bytes - bits)
    return false;
  if (kind == H5T_INTEGER) return true;
  std::size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
  if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0) return false;
  return sign < bits && exponent <= bits && exponent_bits > 0 && exponent_bits <= bits - exponent && mantissa <= bits &&
         mantissa_bits > 0 && mantissa_bits <= bits - mantissa;
}

std::int64_t points_of(hid_t space) {
  const hssize_t points = H5Sget_simple_extent_npoints(space);
  return points < 0 ? -1 : static_cast<std::int64_t>(points);
}

}  // namespace

QuietHdf5::QuietHdf5() {
  // Files are read only and closed here: at the end of the program the library has nothing to save, and may complain.
  H5dont_atexit();
  H5Eget_auto2(H5E_DEFAULT, &report_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}
QuietHdf5::~QuietHdf5() { H5Eset_auto2(H5E_DEFAULT, report_, data_); }

void Hdf5File::fail(const std::string& place, const std::string& what) const {
  throw Error(ErrorKind::data, path_ + ": " + (place.empty() ? "" : place + ": ") + what);
}

Hdf5File::Hdf5File(const std::string& path) : path_(path), file_(open_file(path), H5Fclose) {
  std::error_code code;
  if (!file_.sound()) {
    if (!std::filesystem::exists(path, code)) fail("", "there is no such file");
    if (std::filesystem::is_directory(path, code)) fail("", "is a folder; name a file in it");
    fail("", "is not an HDF5 file, is damaged, or may not be read");
  }
  require_self_contained();
}

void Hdf5File::require_self_contained() const {
  Walk walk;
  const herr_t links = H5Lvisit(file_.id(), H5_INDEX_NAME, H5_ITER_NATIVE, tenfold_check_link, &walk);
  const herr_t objects = walk.what == nullptr && links >= 0 ? H5Ovisit2(file_.id(), H5_INDEX_NAME, H5_ITER_NATIVE,
                                                                        tenfold_check_object, &walk, H5O_INFO_BASIC)
                                                            : 0;
  if (walk.size) fail(walk.place, "says that it holds far more values than are stored of it");
  if (walk.what != nullptr)
    fail(walk.place, std::string("is ") + walk.what + "; only what lies in the file itself is read: copy it in");
  if (links < 0 || objects < 0) fail("", "is damaged: its groups cannot be listed");
}

std::vector<std::string> Hdf5File::groups() const {
  std::vector<std::string> names;
  if (H5Literate(file_.id(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, tenfold_collect_group, &names) < 0)
    fail("", "is damaged: its groups cannot be listed");
  std::sort(names.begin(), names.end(), natural_less);
  return names;
}

bool Hdf5File::has(const std::string& path) const {
  // H5Lexists wants every step on the way to exist.
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    if (H5Lexists(file_.id(), path.substr(0, end).c_str(), H5P_DEFAULT) <= 0) return false;
    if (end == std::string::npos) return true;
  }
}

Hdf5Handle Hdf5File::open_dataset(const std::string& path) const {
  if (!has(path)) fail(path, "is not in the file");
  Hdf5Handle dataset(H5Dopen2(file_.id(), path.c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset.sound()) fail(path, "is not a dataset, or is damaged");
  return dataset;
}

Hdf5File::Extent Hdf5File::extent(const std::string& path) const {
  const Hdf5Handle dataset = open_dataset(path);
  const Hdf5Handle type(H5Dget_type(dataset.id()), H5Tclose), space(H5Dget_space(dataset.id()), H5Sclose);
  const Hdf5Handle made(H5Dget_create_plist(dataset.id()), H5Pclose);
  if (!type.sound() || !space.sound() || !made.sound()) fail(path, "is damaged");
  const std::size_t item_bytes = H5Tget_size(type.id());
  if (!is_sound_number(type.id())) fail(path, "does not hold numbers; save float32, float64 or whole numbers");
  const int rank = H5Sget_simple_extent_ndims(space.id());
  if (rank < 0 || rank > H5S_MAX_RANK) fail(path, "is damaged");
  std::vector<hsize_t> shape(static_cast<std::size_t>(rank)), chunk(shape.size());
  if (rank > 0) H5Sget_simple_extent_dims(space.id(), shape.data(), nullptr);
  Extent extent;
  extent.values = points_of(space.id());
  if (extent.values < 0) fail(path, "has a shape that is too large");
  extent.shape.assign(shape.begin(), shape.end());
  if (H5Pget_layout(made.id()) == H5D_CHUNKED) {
    std::uint64_t bytes = item_bytes;
    if (H5Pget_chunk(made.id(), rank, chunk.data()) != rank) fail(path, "is damaged");
    for (const hsize_t dimension : chunk)
      bytes = dimension > kMaxChunkBytes ? UINT64_MAX : std::min(bytes, kMaxChunkBytes + 1) * dimension;
    if (bytes > kMaxChunkBytes) fail(path, "has chunks above 256 MiB; save it with smaller ones");
    // A whole chunk is unpacked for a single value of it.
    if (bytes > kFreeChunkBytes && bytes / kMostFromOneByte > H5Dget_storage_size(dataset.id()))
      fail(path, "has chunks that are far larger than what is stored; save it with smaller ones");
  }
  return extent;
}

std::vector<double> Hdf5File::first_numbers(const std::string& path, std::int64_t count) const {
  const Extent whole = extent(path);
  const std::int64_t longest = whole.shape.empty() ? 1 : *std::max_element(whole.shape.begin(), whole.shape.end());
  if (longest != whole.values) fail(path, "has more than one dimension; one label per step or one in all is needed");
  std::vector<double> values(static_cast<std::size_t>(std::clamp<std::int64_t>(count, 0, whole.values)));
  if (values.empty()) return values;
  const Hdf5Handle dataset = open_dataset(path);
  const Hdf5Handle from(H5Dget_space(dataset.id()), H5Sclose);
  const hsize_t length = values.size();
  const Hdf5Handle to(H5Screate_simple(1, &length, nullptr), H5Sclose);
  if (!whole.shape.empty()) {
    std::vector<hsize_t> start(whole.shape.size(), 0), edge(whole.shape.size(), 1);
    const auto along = std::max_element(whole.shape.begin(), whole.shape.end()) - whole.shape.begin();
    edge[static_cast<std::size_t>(along)] = length;
    H5Sselect_hyperslab(from.id(), H5S_SELECT_SET, start.data(), nullptr, edge.data(), nullptr);
  }
  if (H5Dread(dataset.id(), H5T_NATIVE_DOUBLE, to.id(), from.id(), H5P_DEFAULT, values.data()) < 0)
    fail(path, "cannot be read: it is damaged, or packed by a filter that is not installed");
  return values;
}

void Hdf5File::read_columns(const std::string& path, std::int64_t rows, std::int64_t first, std::int64_t end,
                            std::span<float> to, std::int64_t width, std::int64_t at) const {
  const Hdf5Handle dataset = open_dataset(path);
  const Hdf5Handle from(H5Dget_space(dataset.id()), H5Sclose);
  const hsize_t room[] = {static_cast<hsize_t>(rows), static_cast<hsize_t>(width)};
  const hsize_t count[] = {static_cast<hsize_t>(rows), static_cast<hsize_t>(end - first)};
  const hsize_t from_start[] = {0, static_cast<hsize_t>(first)}, to_start[] = {0, static_cast<hsize_t>(at)};
  const Hdf5Handle memory(H5Screate_simple(2, room, nullptr), H5Sclose);
  if (to.size() != room[0] * room[1] || H5Sget_simple_extent_ndims(from.id()) != 2)
    throw Error(ErrorKind::internal, path_ + ": " + path + ": columns do not fit their place");
  if (H5Sselect_hyperslab(from.id(), H5S_SELECT_SET, from_start, nullptr, count, nullptr) < 0 ||
      H5Sselect_hyperslab(memory.id(), H5S_SELECT_SET, to_start, nullptr, count, nullptr) < 0 ||
      H5Dread(dataset.id(), H5T_NATIVE_FLOAT, memory.id(), from.id(), H5P_DEFAULT, to.data()) < 0)
    fail(path, "cannot be read: it is damaged, or packed by a filter that is not installed");
}

Hdf5Handle Hdf5File::open_attribute(const std::string& group, const std::string& name) const {
  const htri_t there = H5Aexists_by_name(file_.id(), group.c_str(), name.c_str(), H5P_DEFAULT);
  if (there == 0) return {-1, H5Aclose};
  Hdf5Handle attribute(
      there > 0 ? H5Aopen_by_name(file_.id(), group.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT) : -1, H5Aclose);
  if (!attribute.sound()) fail(group, "its attribute '" + name + "' is damaged");
  const Hdf5Handle space(H5Aget_space(attribute.id()), H5Sclose);
  if (!space.sound() || points_of(space.id()) != 1) fail(group, "its attribute '" + name + "' is not one value");
  return attribute;
}

std::optional<double> Hdf5File::attribute_number(const std::string& group, const std::string& name) const {
  const Hdf5Handle attribute = open_attribute(group, name);
  if (!attribute.sound()) return std::nullopt;
  const Hdf5Handle type(H5Aget_type(attribute.id()), H5Tclose);
  double value = 0;
  if (!is_sound_number(type.id()) || H5Aread(attribute.id(), H5T_NATIVE_DOUBLE, &value) < 0)
    fail(group, "its attribute '" + name + "' is not a number");
  return value;
}

std::optional<std::string> Hdf5File::attribute_text(const std::string& group, const std::string& name) const {
  const Hdf5Handle attribute = open_attribute(group, name);
  if (!attribute.sound()) return std::nullopt;
  const Hdf5Handle type(H5Aget_type(attribute.id()), H5Tclose);
  if (H5Tget_class(type.id()) != H5T_STRING) return LabelTable::number_name(*attribute_number(group, name));
  if (H5Tis_variable_str(type.id()) > 0) {
    char* text = nullptr;
    const Hdf5Handle memory_type(H5Tcopy(type.id()), H5Tclose);
    if (H5Aread(attribute.id(), memory_type.id(), &text) < 0 || text == nullptr)
      fail(group, "its attribute '" + name + "' cannot be read");
    const std::unique_ptr<char, herr_t (*)(void*)> owner(text, H5free_memory);
    return std::string(text, ::strnlen(text, kMaxText));
  }
  const std::size_t bytes = H5Tget_size(type.id());
  if (bytes == 0 || bytes > kMaxText) fail(group, "its attribute '" + name + "' is too long a text");
  std::string text(bytes, '\0');
  if (H5Aread(attribute.id(), type.id(), text.data()) < 0) fail(group, "its attribute '" + name + "' cannot be read");
  text.resize(std::min(text.find('\0'), text.size()));
  while (!text.empty() && text.back() == ' ') text.pop_back();  // padded as Fortran pads
  return text;
}

}  // namespace tenfold
