#include "datasets/csv_table.h"

#include <cstring>

#include "experiments/error.h"

namespace tenfold {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_field_char(char c) { return c != ',' && c != '\n' && c != '\r' && c != '"' && c != '\0'; }

}  // namespace

CsvReader::CsvReader(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {
  if (text_.starts_with("\xFF\xFE") || text_.starts_with("\xFE\xFF")) fail(1, "is UTF-16; save it as UTF-8");
  if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
}

void CsvReader::rewind() {
  at_ = 0;
  line_ = 1;
  record_line_ = 0;
}

void CsvReader::fail(std::int64_t line, const std::string& what) const {
  throw Error(ErrorKind::data, name_ + ":" + std::to_string(line) + ": " + what);
}

bool CsvReader::next(std::vector<std::string_view>& fields) {
  fields.clear();
  unescaped_.clear();
  const auto skip_line_break = [&] {
    if (at_ < text_.size() && text_[at_] == '\r') {
      ++at_;
      if (at_ < text_.size() && text_[at_] == '\n') ++at_;
      ++line_;
      return true;
    }
    if (at_ < text_.size() && text_[at_] == '\n') {
      ++at_;
      ++line_;
      return true;
    }
    return false;
  };
  while (skip_line_break()) {
  }
  if (at_ == text_.size()) return false;
  record_line_ = line_;
  for (;;) {
    std::size_t start = at_;
    while (start < text_.size() && (text_[start] == ' ' || text_[start] == '\t')) ++start;
    if (start < text_.size() && text_[start] == '"') {
      at_ = start;
      fields.push_back(quoted_field());
    } else {
      fields.push_back(plain_field());
    }
    if (at_ < text_.size() && text_[at_] == ',') {
      ++at_;
      continue;
    }
    skip_line_break();
    return true;
  }
}

std::string_view CsvReader::plain_field() {
  const std::size_t begin = at_;
  while (at_ < text_.size() && is_field_char(text_[at_])) ++at_;
  if (at_ < text_.size() && text_[at_] == '"')
    fail(line_,
         "a quote inside a field that does not begin with one; write the field in quotes, the quote in it twice");
  if (at_ < text_.size() && text_[at_] == '\0') fail(line_, "holds a zero byte; this is not a text file");
  return trimmed(text_.substr(begin, at_ - begin));
}

std::string_view CsvReader::quoted_field() {
  const std::int64_t first_line = line_;
  const std::size_t begin = ++at_;
  std::string* copy = nullptr;  // made at the first doubled quote
  for (;;) {
    const std::size_t piece = at_;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\0') fail(line_, "holds a zero byte; this is not a text file");
      const bool lone_return = text_[at_] == '\r' && !(at_ + 1 < text_.size() && text_[at_ + 1] == '\n');
      line_ += text_[at_] == '\n' || lone_return;
      ++at_;
    }
    if (at_ == text_.size()) fail(first_line, "a quoted field begins here and never ends");
    if (copy != nullptr) copy->append(text_, piece, at_ - piece);
    const std::size_t end = at_++;
    if (at_ < text_.size() && text_[at_] == '"') {
      if (copy == nullptr) copy = &unescaped_.emplace_back(text_.substr(begin, end - begin));
      copy->push_back('"');
      ++at_;
      continue;
    }
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
    if (at_ < text_.size() && text_[at_] != ',' && text_[at_] != '\n' && text_[at_] != '\r')
      fail(line_, "something follows the closing quote of a field; a quote within a field is written twice");
    return copy != nullptr ? std::string_view(*copy) : text_.substr(begin, end - begin);
  }
}

}  // namespace tenfold
