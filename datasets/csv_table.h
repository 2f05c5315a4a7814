#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenfold {

// Records of a comma-separated text (RFC 4180): quoted fields, doubled quotes, line breaks within quotes, LF or
// CRLF, a byte order mark. Lines with nothing in them are skipped. Fields live until the next record.
class CsvReader {
 public:
  CsvReader(std::string_view text, std::string name);  // name: what messages call the file

  // Throws Error(data) with file:line for a quote out of place or a field that never ends.
  bool next(std::vector<std::string_view>& fields);
  std::int64_t line() const { return record_line_; }  // where the record that next() gave begins, from 1

  // Goes back to before the first record.
  void rewind();

 private:
  [[noreturn]] void fail(std::int64_t line, const std::string& what) const;
  std::string_view quoted_field();
  std::string_view plain_field();

  std::string_view text_;
  std::string name_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1, record_line_ = 0;
  std::deque<std::string> unescaped_;  // of the current record: fields that had doubled quotes
};

}  // namespace tenfold
