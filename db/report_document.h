#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

// A report as headings, sentences and tables, written once and rendered in every format.
namespace tenfold {

class Cell {
 public:
  Cell() = default;  // not applicable
  Cell(std::string text) : value_(std::move(text)) {}
  Cell(const char* text) : value_(std::string(text)) {}
  Cell(std::int64_t integer) : value_(integer) {}
  // `digits` after the point for people; machines get the whole number. NaN: not applicable.
  static Cell number(double value, int digits);
  static Cell signed_number(double value, int digits);

  bool is_number() const { return value_.index() >= 2; }
  std::string text() const;   // for people
  std::string exact() const;  // for CSV; empty where not applicable
  const std::variant<std::monostate, std::string, std::int64_t, double>& value() const { return value_; }

 private:
  std::variant<std::monostate, std::string, std::int64_t, double> value_;
  int digits_ = 4;
  bool sign_ = false;
};

struct ReportTable {
  std::string name;   // for machines: tables of one name are one table there
  std::string title;  // for people; for machines the value of the column `group_column`, when that is set
  std::string group_column;
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;
};

// Something to act on: what was found with its numbers, what that may mean, and what to paste into the experiment file.
struct ReportFinding {
  std::string statement, detail;
  std::string yaml;  // empty: nothing to paste
};

struct ReportSection {
  std::string heading;
  std::vector<std::string> sentences;
  std::vector<ReportTable> tables;
  std::vector<std::string> notes;
  std::vector<ReportFinding> findings = {};  // shown between tables and notes
};

struct ReportDocument {
  std::string title;
  std::vector<std::string> sentences;
  std::vector<ReportSection> sections;
};

// text, markdown, json or csv; Error(config) for another one.
void check_report_format(const std::string& format);
std::string render(const ReportDocument& document, const std::string& format);

}  // namespace tenfold
