#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tenfold {

// Columns that a terminal gives this UTF-8 text.
std::size_t display_width(std::string_view text);

// Control characters and malformed UTF-8 made visible, so that a stored text cannot steer a terminal.
std::string printable(std::string_view text);

// 7 significant digits, without trailing zeros.
std::string short_number(double value);
// `digits` after the point; "-" for NaN.
std::string fixed_number(double value, int digits);
// Shortest text that reads back as the same double.
std::string exact_number(double value);

// A table with aligned columns: names, a rule, rows. Numbers are set to the right.
class TextTable {
 public:
  struct Column {
    std::string name;
    bool right = false;
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }
  std::string text(std::string_view indent = "") const;
  std::string markdown() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

std::string pad(std::string_view text, std::size_t width, bool right);

}  // namespace tenfold
