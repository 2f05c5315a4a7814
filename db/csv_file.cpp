#include "db/csv_file.h"

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::size_t kLongestLine = 1 << 20;
constexpr std::size_t kMostColumns = 1000;

}  // namespace

CsvFile::CsvFile(const std::filesystem::path& path) : path_(path), in_(path, std::ios::binary) {
  if (!in_) throw Error(ErrorKind::data, path.string() + ": cannot be opened; check the name and its permissions");
}

bool CsvFile::next(std::vector<std::string>& cells) {
  std::string text;
  do {
    if (!read_line(text)) return false;
  } while (text.find_first_not_of(" \t") == std::string::npos);
  split(text, cells);
  return true;
}

void CsvFile::fail(const std::string& what, std::int64_t line) const {
  throw Error(ErrorKind::data, path_.string() + ":" + std::to_string(line > 0 ? line : line_) + ": " + what);
}

bool CsvFile::read_line(std::string& text) {
  text.clear();
  ++line_;
  int c = 0;
  try {
    while ((c = in_.rdbuf()->sbumpc()) != std::char_traits<char>::eof() && c != '\n') {
      if (c == 0) fail("holds a zero byte; a CSV file as text is expected");
      text += static_cast<char>(c);
      if (text.size() > kLongestLine) fail("is longer than 1 MiB; a CSV file with one row a line is expected");
    }
  } catch (const std::ios_base::failure&) {
    fail("cannot be read; a file is expected, on a disk without faults");
  }
  if (line_ == 1 && text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);  // byte order mark
  if (text.ends_with('\r')) text.pop_back();
  return c != std::char_traits<char>::eof() || !text.empty();
}

void CsvFile::split(const std::string& text, std::vector<std::string>& cells) const {
  cells.assign(1, "");
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      cells.back() += '"';
      ++i;
    } else if (c == '"' && (quoted || cells.back().empty())) {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      if (cells.size() >= kMostColumns) fail("has more than 1000 columns");
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  if (quoted) fail("a quote is opened and not closed");
  for (std::string& cell : cells) {
    const std::size_t begin = cell.find_first_not_of(" \t");
    cell = begin == std::string::npos ? "" : cell.substr(begin, cell.find_last_not_of(" \t") - begin + 1);
  }
}

}  // namespace tenfold
