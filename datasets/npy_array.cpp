#include "datasets/npy_array.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "datasets/label_table.h"
#include "datasets/loaders.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = 1 << 20;
constexpr std::size_t kMaxDimensions = 32;
constexpr std::int64_t kMaxTextBytes = 4096;

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw Error(ErrorKind::data, name + ": " + what);
}

// The header is the text of a Python dictionary with three known keys.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, RawArray& array) : text_(text), array_(array) {}

  void parse() {
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !descr) {
        skip_space();
        if (at_ < text_.size() && text_[at_] == '[')
          fail(array_.name, "is an array of records; save its fields as arrays of numbers");
        set_type(quoted());
        descr = true;
      } else if (key == "fortran_order" && !order) {
        array_.fortran_order = boolean();
        order = true;
      } else if (key == "shape" && !shape) {
        parse_shape();
        shape = true;
      } else {
        damaged();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size() || !descr || !order || !shape) damaged();
  }

 private:
  [[noreturn]] void damaged() const { fail(array_.name, "its npy header is damaged"); }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }
  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) damaged();
  }
  std::string quoted() {
    skip_space();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) damaged();
    const std::size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) damaged();
    const std::string result(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return result;
  }
  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    damaged();
  }
  void parse_shape() {
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t extent = 0;
      const auto [end, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), extent);
      if (code != std::errc() || extent < 0 || array_.shape.size() >= kMaxDimensions) damaged();
      at_ = static_cast<std::size_t>(end - text_.data());
      if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // written by Python 2
      array_.shape.push_back(extent);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
  }

  // '<f4': byte order, kind, bytes (for U: characters of four bytes)
  void set_type(const std::string& descr) {
    std::string_view type = descr;
    if (!type.empty() && std::string_view("<>|=").find(type[0]) != std::string_view::npos) {
      array_.big_endian = type[0] == '>';
      type.remove_prefix(1);
    }
    if (type.empty()) damaged();
    array_.kind = type[0];
    if (array_.kind == 'O')
      fail(array_.name,
           "holds Python objects, which are not read because that would run code from the file; save numbers or texts");
    std::int64_t size = 0;
    const auto [end, code] = std::from_chars(type.data() + 1, type.data() + type.size(), size);
    const bool known_size = code == std::errc() && end == type.data() + type.size();
    const bool number =
        (array_.kind == 'f' && (size == 2 || size == 4 || size == 8)) ||
        ((array_.kind == 'i' || array_.kind == 'u') && (size == 1 || size == 2 || size == 4 || size == 8)) ||
        (array_.kind == 'b' && size == 1);
    const bool text = (array_.kind == 'U' || array_.kind == 'S') && size >= 1 && size <= kMaxTextBytes;
    if (!known_size || (!number && !text))
      fail(array_.name,
           "holds values of type '" + descr + "', which is not known; save float32, float64, whole numbers or texts");
    array_.item_bytes = static_cast<std::size_t>(array_.kind == 'U' ? 4 * size : size);
  }

  std::string_view text_;
  std::size_t at_ = 0;
  RawArray& array_;
};

template <class Word>
Word read_word(const std::byte* from, bool big_endian) {
  Word word = 0;
  for (std::size_t i = 0; i < sizeof(Word); ++i) {
    const std::size_t shift = 8 * (big_endian ? sizeof(Word) - 1 - i : i);
    word = static_cast<Word>(
        word | static_cast<Word>(static_cast<std::uint64_t>(std::to_integer<unsigned>(from[i])) << shift));
  }
  return word;
}

double half_to_double(std::uint16_t half) {
  const int exponent = (half >> 10) & 0x1F, fraction = half & 0x3FF;
  const double sign = (half & 0x8000) != 0 ? -1 : 1;
  if (exponent == 0x1F) return fraction != 0 ? std::nan("") : sign * INFINITY;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25));
}

// Calls use(T{}) with the element's C++ type; std::uint16_t with kind f stands for a half.
template <class T>
double number_at(const RawArray& array, std::size_t i) {
  const std::byte* from = array.data.data() + i * sizeof(T);
  using Word = std::conditional_t<sizeof(T) == 1, std::uint8_t,
                                  std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                                     std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;
  return static_cast<double>(std::bit_cast<T>(read_word<Word>(from, array.big_endian)));
}

double half_at(const RawArray& array, std::size_t i) {
  return half_to_double(read_word<std::uint16_t>(array.data.data() + 2 * i, array.big_endian));
}

using NumberAt = double (*)(const RawArray&, std::size_t);

NumberAt number_reader(const RawArray& array) {
  const std::size_t bytes = array.item_bytes;
  if (array.kind == 'f') return bytes == 2 ? half_at : bytes == 4 ? number_at<float> : number_at<double>;
  if (array.kind == 'i')
    return bytes == 1   ? number_at<std::int8_t>
           : bytes == 2 ? number_at<std::int16_t>
           : bytes == 4 ? number_at<std::int32_t>
                        : number_at<std::int64_t>;
  if (array.kind == 'u' || array.kind == 'b')
    return bytes == 1   ? number_at<std::uint8_t>
           : bytes == 2 ? number_at<std::uint16_t>
           : bytes == 4 ? number_at<std::uint32_t>
                        : number_at<std::uint64_t>;
  return nullptr;
}

void append_utf8(std::string& text, std::uint32_t code, const std::string& name) {
  if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail(name, "holds a text that is not Unicode");
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xC0 | (code >> 6));
    text += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    text += static_cast<char>(0xE0 | (code >> 12));
    text += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    text += static_cast<char>(0xF0 | (code >> 18));
    text += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
    text += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  }
}

std::string text_at(const RawArray& array, std::size_t i) {
  const std::byte* from = array.data.data() + i * array.item_bytes;
  std::string text;
  if (array.kind == 'S') {
    for (std::size_t b = 0; b < array.item_bytes && from[b] != std::byte{0}; ++b) {
      const auto byte = std::to_integer<std::uint32_t>(from[b]);
      if (byte >= 0x80) fail(array.name, "holds byte texts that are not ASCII; save them as str");
      text += static_cast<char>(byte);
    }
    return text;
  }
  for (std::size_t b = 0; b < array.item_bytes; b += 4) {
    const auto code = read_word<std::uint32_t>(from + b, array.big_endian);
    if (code == 0) break;
    append_utf8(text, code, array.name);
  }
  return text;
}

std::string shape_told(const std::vector<std::int64_t>& shape) {
  std::string told = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) told += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return told + ")";
}

// Visits the elements in row-major order; each(place in memory).
template <class Each>
void for_each_in_row_major(const RawArray& array, std::size_t count, Each each) {
  if (!array.fortran_order || array.shape.size() < 2) {
    for (std::size_t i = 0; i < count; ++i) each(i);
    return;
  }
  const std::size_t rank = array.shape.size();
  std::vector<std::size_t> stride(rank), at(rank, 0);
  std::size_t product = 1;
  for (std::size_t d = 0; d < rank; ++d) {
    stride[d] = product;
    product *= static_cast<std::size_t>(array.shape[d]);
  }
  std::size_t place = 0;
  for (std::size_t i = 0; i < count; ++i) {
    each(place);
    for (std::size_t d = rank; d-- > 0;) {
      place += stride[d];
      if (++at[d] < static_cast<std::size_t>(array.shape[d])) break;
      place -= at[d] * stride[d];
      at[d] = 0;
    }
  }
}

}  // namespace

RawArray parse_npy(std::span<const std::byte> bytes, const std::string& name) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (bytes.size() < 10 || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    fail(name, "is not an npy array (it does not begin with \\x93NUMPY)");
  const auto version = std::to_integer<int>(bytes[6]);
  if (version < 1 || version > 3) fail(name, "is npy version " + std::to_string(version) + ", which is not known");
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  if (bytes.size() < 8 + length_bytes) fail(name, "ends inside its header");
  const std::uint64_t header_bytes = length_bytes == 2 ? read_word<std::uint16_t>(bytes.data() + 8, false)
                                                       : read_word<std::uint32_t>(bytes.data() + 8, false);
  const std::size_t begin = 8 + length_bytes;
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - begin) fail(name, "ends inside its header");

  RawArray array;
  array.name = name;
  HeaderParser({reinterpret_cast<const char*>(bytes.data()) + begin, static_cast<std::size_t>(header_bytes)}, array)
      .parse();
  array.data = bytes.subspan(begin + static_cast<std::size_t>(header_bytes));
  const auto available = static_cast<std::int64_t>(array.data.size() / array.item_bytes);
  const std::int64_t count = checked_elements(array.shape, available, name);
  if (static_cast<std::size_t>(count) * array.item_bytes != array.data.size())
    fail(name, "has " + std::to_string(array.data.size()) + " bytes of data where its shape " +
                   shape_told(array.shape) + " needs " +
                   std::to_string(static_cast<std::size_t>(count) * array.item_bytes));
  return array;
}

std::vector<float> to_floats(const RawArray& array) {
  const NumberAt number = number_reader(array);
  if (number == nullptr) fail(array.name, "holds texts where numbers are needed");
  const std::size_t count = array.data.size() / array.item_bytes;
  std::vector<float> values(count);
  if (array.kind == 'f' && array.item_bytes == 4 && !array.big_endian && !array.fortran_order) {
    if (count > 0) std::memcpy(values.data(), array.data.data(), array.data.size());
  } else {
    std::size_t to = 0;
    for_each_in_row_major(array, count,
                          [&](std::size_t from) { values[to++] = static_cast<float>(number(array, from)); });
  }
  const std::int64_t samples = array.shape.empty() ? 1 : std::max<std::int64_t>(array.shape[0], 1);
  require_finite(values, std::max<std::int64_t>(static_cast<std::int64_t>(count) / samples, 1), array.name);
  return values;
}

std::vector<double> to_numbers(const RawArray& array) {
  const NumberAt number = number_reader(array);
  if (number == nullptr) fail(array.name, "holds texts where numbers are needed");
  const std::size_t count = array.data.size() / array.item_bytes;
  std::vector<double> values;
  values.reserve(count);
  for_each_in_row_major(array, count, [&](std::size_t from) { values.push_back(number(array, from)); });
  return values;
}

void copy_columns(const RawArray& array, const ColumnCopy& copy, std::span<float> to) {
  const NumberAt number = number_reader(array);
  if (number == nullptr) fail(array.name, "holds texts where numbers are needed");
  const std::int64_t all_rows = array.shape.empty() ? 0 : array.shape[0];
  const std::int64_t all_columns = array.shape.size() == 2 ? array.shape[1] : 1;
  if (array.shape.empty() || array.shape.size() > 2 || copy.first < 0 || copy.rows > all_rows - copy.first ||
      copy.begin < 0 || copy.end > all_columns || static_cast<std::int64_t>(to.size()) != copy.rows * copy.width)
    throw Error(ErrorKind::internal, array.name + ": columns do not fit their place");
  for (std::int64_t row = 0; row < copy.rows; ++row)
    for (std::int64_t column = copy.begin; column < copy.end; ++column) {
      const std::int64_t from =
          array.fortran_order ? column * all_rows + copy.first + row : (copy.first + row) * all_columns + column;
      to[static_cast<std::size_t>(row * copy.width + copy.at + column - copy.begin)] =
          static_cast<float>(number(array, static_cast<std::size_t>(from)));
    }
}

NamedCodes to_codes(const RawArray& array, std::int64_t samples) {
  const bool column = array.shape.size() == 1 || (array.shape.size() == 2 && array.shape[1] == 1);
  if (!column) fail(array.name, "has shape " + shape_told(array.shape) + " where one value a sample is needed");
  if (array.shape[0] != samples)
    fail(array.name, "has " + std::to_string(array.shape[0]) + " values for " + std::to_string(samples) + " samples");
  const NumberAt number = number_reader(array);
  LabelTable table;
  NamedCodes result;
  result.codes.reserve(static_cast<std::size_t>(samples));
  for (std::size_t i = 0; i < static_cast<std::size_t>(samples); ++i) {
    if (number == nullptr) {
      result.codes.push_back(table.code(text_at(array, i)));
      continue;
    }
    const double value = number(array, i);
    if (!std::isfinite(value)) fail(array.name, "sample " + std::to_string(i) + " (from 0) is not finite");
    result.codes.push_back(table.code(value));
  }
  LabelTable::Sorted sorted = table.finish();
  renumber(result.codes, sorted.position);
  result.names = std::move(sorted.names);
  return result;
}

std::vector<std::int64_t> sample_shape_of(const RawArray& array) {
  const auto& shape = array.shape;
  if (shape.empty() || shape.size() > 4)
    fail(array.name,
         "has shape " + shape_told(shape) +
             " where (samples, features), (samples, height, width) or (samples, channels, height, width) is needed");
  if (array.data.empty()) fail(array.name, "holds no values: its shape is " + shape_told(shape));
  if (shape.size() == 1) return {1};
  if (shape.size() == 3) return {1, shape[1], shape[2]};
  return {shape.begin() + 1, shape.end()};
}

}  // namespace tenfold
