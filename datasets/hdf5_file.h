#pragma once

#include <hdf5.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

// Reading of HDF5 files, which are taken to be hostile: what lies in another file is refused, sizes are checked before
// memory is taken, and the library's own messages stay away from the terminal.
namespace tenfold {

// While it lives the library prints nothing. Not for several threads at once, as the library is not.
class QuietHdf5 {
 public:
  QuietHdf5();
  ~QuietHdf5();
  QuietHdf5(const QuietHdf5&) = delete;
  QuietHdf5& operator=(const QuietHdf5&) = delete;

 private:
  H5E_auto2_t report_ = nullptr;
  void* data_ = nullptr;
};

// An identifier of the library, closed with what it is.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(other.id_), close_(other.close_) { other.id_ = -1; }
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t id() const { return id_; }
  bool sound() const { return id_ >= 0; }

 private:
  hid_t id_;
  Close close_;
};

class Hdf5File {
 public:
  // Throws Error(data) where the file is none of HDF5, or anything in it lies elsewhere: external links, external or
  // virtual datasets; for soft links, which are not needed to read a trial; and for a dataset that says it holds far
  // more than is stored of it.
  explicit Hdf5File(const std::string& path);

  // The groups at the root, in natural order of their names: trial_2 before trial_10.
  std::vector<std::string> groups() const;

  // Where a dataset is told of, it is the path from the root; where: what messages call it.
  struct Extent {
    std::vector<std::int64_t> shape;
    std::int64_t values = 0;
  };
  bool has(const std::string& path) const;
  // A dataset of real or whole numbers. Throws Error(data) for others, and for chunks too large for memory.
  Extent extent(const std::string& path) const;
  // The first `count` values of a dataset of at most one dimension that counts.
  std::vector<double> first_numbers(const std::string& path, std::int64_t count) const;
  // Rows 0..rows-1, columns first..end-1 of a dataset (T, F) into columns at.. of `to`, which is `width` wide.
  void read_columns(const std::string& path, std::int64_t rows, std::int64_t first, std::int64_t end,
                    std::span<float> to, std::int64_t width, std::int64_t at) const;
  // A text or a number, as text; nothing where the group has no such attribute.
  std::optional<std::string> attribute_text(const std::string& group, const std::string& name) const;
  std::optional<double> attribute_number(const std::string& group, const std::string& name) const;

 private:
  [[noreturn]] void fail(const std::string& place, const std::string& what) const;
  Hdf5Handle open_dataset(const std::string& path) const;
  Hdf5Handle open_attribute(const std::string& group, const std::string& name) const;
  void require_self_contained() const;

  std::string path_;
  QuietHdf5 quiet_;
  Hdf5Handle file_;
};

}  // namespace tenfold
