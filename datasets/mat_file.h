#pragma once

#include <matio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "datasets/hdf5_file.h"

namespace tenfold {

// An array of a MATLAB file whose values are in memory.
struct MatArray {
  std::vector<std::int64_t> shape;
  std::vector<double> values;  // first dimension fastest, as MATLAB has it
};

// A MATLAB file of version 4, 5, 7 or 7.3. Values are read one variable, cell or field at a time.
class MatFile {
 public:
  // Throws Error(data) where it is none, or, of version 7.3, where Hdf5File refuses it.
  explicit MatFile(const std::string& path);

  using Variable = std::unique_ptr<matvar_t, decltype(&Mat_VarFree)>;
  std::vector<std::string> names() const { return names_; }
  Variable info(const std::string& name) const;  // without values

  // place: what messages call it. Throw Error(data) for other contents, and for sizes that the file cannot hold.
  MatArray numbers(matvar_t& variable, const std::string& place) const;
  std::string text_or_number(matvar_t& variable, const std::string& place) const;

  // The shape that a variable, cell or field says it has; at least two dimensions.
  std::vector<std::int64_t> shape_of(const matvar_t& variable, const std::string& place) const;
  static std::int64_t elements(const std::vector<std::int64_t>& shape);
  static bool is_numeric(const matvar_t& variable);
  [[noreturn]] void fail(const std::string& place, const std::string& what) const;

 private:
  void read(matvar_t& variable, const std::string& place) const;

  std::string path_;
  QuietHdf5 quiet_;
  std::uint64_t file_bytes_ = 0;
  std::unique_ptr<mat_t, int (*)(mat_t*)> file_;
  std::vector<std::string> names_;
};

}  // namespace tenfold
