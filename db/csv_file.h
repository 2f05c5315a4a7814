#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace tenfold {

// A CSV file as cells, line by line. Lines are at most 1 MiB and 1000 columns; a byte order mark and CRLF are
// understood.
class CsvFile {
 public:
  explicit CsvFile(const std::filesystem::path& path);  // Error(data) when it cannot be opened

  // The next line that is not empty. A quoted cell may hold commas and doubled quotes, not line ends.
  bool next(std::vector<std::string>& cells);
  std::int64_t line() const { return line_; }
  // Throws Error(data): file:line: what. Line 0 is the current one.
  [[noreturn]] void fail(const std::string& what, std::int64_t line = 0) const;

 private:
  bool read_line(std::string& text);
  void split(const std::string& text, std::vector<std::string>& cells) const;

  std::filesystem::path path_;
  std::ifstream in_;
  std::int64_t line_ = 0;
};

}  // namespace tenfold
