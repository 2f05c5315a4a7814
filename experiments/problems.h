#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/document.h"

namespace tenfold {

// All that is wrong with an experiment file, collected so that the user sees it in one go.
class Problems {
 public:
  // Sources are the file and the --set options; the index is Mark::source.
  std::int32_t add_source(std::string name, bool has_lines);
  std::string where(const Mark& mark) const;  // "file:line:column" or "--set key=value"

  void add(const Mark& mark, std::string message);
  bool empty() const { return problems_.empty(); }
  std::size_t size() const { return problems_.size() + left_out_; }
  bool full() const { return problems_.size() >= kMost; }  // further ones are only counted
  // One a line, in the order of the sources: "file:line:column: message". Equal ones once.
  std::string text() const;
  void throw_if_any() const;  // Error(config)

 private:
  static constexpr std::size_t kMost = 50;
  struct Source {
    std::string name;
    bool has_lines;
  };
  struct Problem {
    Mark mark;
    std::string message;
    auto operator<=>(const Problem&) const = default;
  };
  std::vector<Source> sources_;
  std::vector<Problem> problems_;
  std::size_t left_out_ = 0;
};

// The candidate that `word` was probably meant to be, or empty: few edits (insert, delete, replace, swap) apart.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);
// `; did you mean "x"?`, or empty.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);
std::string join(std::span<const std::string_view> words, std::string_view separator = ", ");
// Text from the user inside a message: quoted, control characters shown, shortened.
std::string quote(std::string_view text);

}  // namespace tenfold
