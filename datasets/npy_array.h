#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tenfold {

// An array of numbers or texts in memory, as npy and idx files hold it: where its bytes are, and how they are
// to be read. Owns nothing.
struct RawArray {
  char kind = 'f';  // f: float, i: signed, u: unsigned, b: bool, U: UTF-32 text, S: bytes
  std::size_t item_bytes = 4;
  bool big_endian = false;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
  std::string name;  // what messages call it
};

// The array of an npy file (format versions 1 to 3). Python objects are refused: reading them would run the
// file's code. Throws Error(data).
RawArray parse_npy(std::span<const std::byte> bytes, const std::string& name);

// Values in row-major order. Throws Error(data) for texts, and for what is not finite in float32.
std::vector<float> to_floats(const RawArray& array);

// Values in row-major order, as they are. Throws Error(data) for texts.
std::vector<double> to_numbers(const RawArray& array);

// Rows `first` .. first + rows - 1 of an array (N, F) or (N), columns begin .. end - 1 of them, into columns at .. of
// `to`, which is (rows, width).
struct ColumnCopy {
  std::int64_t first, rows, begin, end, width, at;
};
void copy_columns(const RawArray& array, const ColumnCopy& copy, std::span<float> to);

// One label, group or fold a sample: numbers (whole or not) or texts, sorted and numbered.
struct NamedCodes {
  std::vector<std::int64_t> codes;
  std::vector<std::string> names;
};
NamedCodes to_codes(const RawArray& array, std::int64_t samples);

// (N) -> (1), (N, F) -> (F), (N, H, W) -> (1, H, W), (N, C, H, W) -> (C, H, W). Throws Error(data) for others.
std::vector<std::int64_t> sample_shape_of(const RawArray& array);

}  // namespace tenfold
