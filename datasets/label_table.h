#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tenfold {

// Names as they come (of labels, groups, categories) to numbers 0..n-1, sorted: by value where all of them are
// numbers, as text otherwise. Equal numbers are one name however they are written: 1, 1.0 and 01.
class LabelTable {
 public:
  // The code of `name` in order of first appearance; finish() tells what became of it.
  std::int64_t code(std::string_view name);
  std::int64_t code(double value) { return code(std::string_view(number_name(value))); }
  std::size_t size() const { return names_.size(); }

  struct Sorted {
    std::vector<std::string> names;
    std::vector<std::int64_t> position;  // by code: its place among the sorted names
  };
  Sorted finish() const;

  static std::string number_name(double value);  // the shortest text: 3, 0.5

 private:
  std::unordered_map<std::string, std::int64_t> codes_;
  std::vector<std::string> names_;
};

// codes -> places among the sorted names, in place.
void renumber(std::vector<std::int64_t>& codes, const std::vector<std::int64_t>& position);

// Needs at least two classes, and no more than could be meant. Throws Error(data).
void require_classes(std::size_t classes, std::int64_t samples, const std::string& where);

// A text as a number: all of it, finite or not; false when it is none.
bool parse_number(std::string_view text, double& value);

}  // namespace tenfold
