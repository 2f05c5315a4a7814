#include "datasets/mat_file.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>

#include "datasets/label_table.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

// A byte of a packed variable becomes at most so many: zlib's best, and whole numbers widened to eight bytes.
constexpr std::uint64_t kMostFromOneByte = 1100 * 8;
constexpr std::size_t kMaxText = 4096;

// Frees the values of a cell or field once they are copied: a file's trials are never all held.
class ValuesInMemory {
 public:
  explicit ValuesInMemory(matvar_t& variable) : variable_(variable) {}
  ~ValuesInMemory() {
    std::free(variable_.data);
    variable_.data = nullptr;
  }
  ValuesInMemory(const ValuesInMemory&) = delete;
  ValuesInMemory& operator=(const ValuesInMemory&) = delete;

 private:
  matvar_t& variable_;
};

template <class T>
void append(const void* data, std::size_t count, std::vector<double>& values) {
  const T* const from = static_cast<const T*>(data);
  for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<double>(from[i]));
}

// False for a type that is not one of numbers.
bool append_typed(matio_types type, const void* data, std::size_t count, std::vector<double>& values) {
  switch (type) {
    case MAT_T_DOUBLE:
      append<double>(data, count, values);
      return true;
    case MAT_T_SINGLE:
      append<float>(data, count, values);
      return true;
    case MAT_T_INT8:
      append<std::int8_t>(data, count, values);
      return true;
    case MAT_T_UINT8:
      append<std::uint8_t>(data, count, values);
      return true;
    case MAT_T_INT16:
      append<std::int16_t>(data, count, values);
      return true;
    case MAT_T_UINT16:
      append<std::uint16_t>(data, count, values);
      return true;
    case MAT_T_INT32:
      append<std::int32_t>(data, count, values);
      return true;
    case MAT_T_UINT32:
      append<std::uint32_t>(data, count, values);
      return true;
    case MAT_T_INT64:
      append<std::int64_t>(data, count, values);
      return true;
    case MAT_T_UINT64:
      append<std::uint64_t>(data, count, values);
      return true;
    default:
      return false;
  }
}

void append_utf8(std::uint32_t unit, std::string& text) {
  if (unit < 0x80) {
    text += static_cast<char>(unit);
  } else if (unit < 0x800) {
    text += static_cast<char>(0xC0 | (unit >> 6));
    text += static_cast<char>(0x80 | (unit & 0x3F));
  } else {
    text += static_cast<char>(0xE0 | (unit >> 12));
    text += static_cast<char>(0x80 | ((unit >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (unit & 0x3F));
  }
}

}  // namespace

void MatFile::fail(const std::string& place, const std::string& what) const {
  throw Error(ErrorKind::data, path_ + ": " + (place.empty() ? "" : place + ": ") + what);
}

MatFile::MatFile(const std::string& path) : path_(path), file_(nullptr, Mat_Close) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code)) fail("", "is a folder; name a file in it");
  file_bytes_ = std::filesystem::file_size(path, code);
  if (code) fail("", "cannot be read: " + code.message());
  if (H5Fis_hdf5(path.c_str()) > 0) const Hdf5File checked(path);  // version 7.3: matio would follow its links
  file_.reset(Mat_Open(path.c_str(), MAT_ACC_RDONLY));
  if (file_ == nullptr) fail("", "is not a MATLAB file, or is damaged");
  std::size_t count = 0;
  char* const* const names = Mat_GetDir(file_.get(), &count);  // the file's own list, freed with it
  if (names == nullptr) fail("", "holds no variables, or is damaged");
  for (std::size_t i = 0; i < count; ++i)
    if (names[i] != nullptr) names_.emplace_back(names[i]);
}

MatFile::Variable MatFile::info(const std::string& name) const {
  Variable variable(Mat_VarReadInfo(file_.get(), name.c_str()), Mat_VarFree);
  if (variable == nullptr) fail(name, "is not in the file, or is damaged");
  return variable;
}

std::vector<std::int64_t> MatFile::shape_of(const matvar_t& variable, const std::string& place) const {
  if (variable.rank < 2 || variable.rank > 32 || variable.dims == nullptr) fail(place, "has no sound shape");
  std::vector<std::int64_t> shape;
  std::uint64_t product = 1;
  for (int i = 0; i < variable.rank; ++i) {
    const std::uint64_t extent = variable.dims[i];
    if (extent > 0 && product > static_cast<std::uint64_t>(std::numeric_limits<int>::max()) * 1024 / extent)
      fail(place, "says that it has more elements than any file could hold");
    product *= extent;
    shape.push_back(static_cast<std::int64_t>(extent));
  }
  if (product / kMostFromOneByte > file_bytes_)
    fail(place, "says that it has " + std::to_string(product) + " elements, which the file cannot hold");
  return shape;
}

std::int64_t MatFile::elements(const std::vector<std::int64_t>& shape) {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

bool MatFile::is_numeric(const matvar_t& variable) {
  return variable.class_type >= MAT_C_DOUBLE && variable.class_type <= MAT_C_UINT64;
}

void MatFile::read(matvar_t& variable, const std::string& place) const {
  if (variable.data == nullptr && Mat_VarReadDataAll(file_.get(), &variable) != 0)
    fail(place, "cannot be read: the file is damaged");
  if (variable.data == nullptr) fail(place, "cannot be read: the file is damaged");
}

MatArray MatFile::numbers(matvar_t& variable, const std::string& place) const {
  if (!is_numeric(variable)) fail(place, "is not an array of numbers");
  if (variable.isComplex != 0) fail(place, "holds complex numbers; save their parts or magnitudes");
  MatArray array;
  array.shape = shape_of(variable, place);
  const auto count = static_cast<std::size_t>(elements(array.shape));
  if (count == 0) return array;
  read(variable, place);
  const ValuesInMemory values(variable);
  if (variable.data_size <= 0 || variable.nbytes < count * static_cast<std::size_t>(variable.data_size))
    fail(place, "is damaged: it has fewer values than its shape says");
  array.values.reserve(count);
  if (Mat_SizeOf(variable.data_type) != static_cast<std::size_t>(variable.data_size) ||
      !append_typed(variable.data_type, variable.data, count, array.values))
    fail(place, "holds values of a type that is not known");
  return array;
}

std::string MatFile::text_or_number(matvar_t& variable, const std::string& place) const {
  if (variable.class_type != MAT_C_CHAR) {
    const MatArray array = numbers(variable, place);
    if (array.values.size() != 1) fail(place, "is neither a text nor one number");
    return LabelTable::number_name(array.values[0]);
  }
  const std::vector<std::int64_t> shape = shape_of(variable, place);
  const auto count = static_cast<std::size_t>(elements(shape));
  if (shape[0] != 1 || count > kMaxText) fail(place, "is not a text of one line");
  read(variable, place);
  const ValuesInMemory values(variable);
  if (variable.nbytes < count * static_cast<std::size_t>(std::max(variable.data_size, 1))) fail(place, "is damaged");
  std::string text;
  const auto* const bytes = static_cast<const unsigned char*>(variable.data);
  for (std::size_t i = 0; i < count; ++i) {
    std::uint16_t wide = 0;
    if (variable.data_size == 2) std::memcpy(&wide, bytes + 2 * i, 2);
    if (variable.data_type == MAT_T_UTF8)
      text += static_cast<char>(bytes[i]);
    else
      append_utf8(variable.data_size == 2 ? wide : bytes[i], text);
  }
  return text;
}

}  // namespace tenfold
