#include "experiments/problems.h"

#include <algorithm>
#include <limits>

#include "experiments/error.h"

namespace tenfold {
namespace {

// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

std::string folded(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c == '-' || c == ' ' ? '_' : c;
  return out;
}

}  // namespace

std::int32_t Problems::add_source(std::string name, bool has_lines) {
  sources_.push_back({std::move(name), has_lines});
  return static_cast<std::int32_t>(sources_.size()) - 1;
}

std::string Problems::where(const Mark& mark) const {
  if (mark.source < 0 || static_cast<std::size_t>(mark.source) >= sources_.size()) return "experiment";
  const Source& source = sources_[static_cast<std::size_t>(mark.source)];
  if (!source.has_lines || mark.line == 0) return source.name;
  return source.name + ":" + std::to_string(mark.line) + ":" + std::to_string(mark.column);
}

void Problems::add(const Mark& mark, std::string message) {
  Problem problem{mark, std::move(message)};
  if (std::find(problems_.begin(), problems_.end(), problem) != problems_.end()) return;
  if (full())
    ++left_out_;
  else
    problems_.push_back(std::move(problem));
}

std::string Problems::text() const {
  std::vector<Problem> sorted = problems_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.mark < b.mark; });
  std::string out;
  for (const Problem& problem : sorted) {
    if (!out.empty()) out += '\n';
    out += where(problem.mark) + ": " + problem.message;
  }
  if (left_out_ > 0) out += "\nand " + std::to_string(left_out_) + " more like these";
  return out;
}

void Problems::throw_if_any() const {
  if (!empty()) throw Error(ErrorKind::config, text());
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.empty() || word.size() > 60) return {};
  const std::string wanted = folded(word);
  std::string_view best;
  std::size_t best_distance = std::numeric_limits<std::size_t>::max();
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(wanted, folded(candidate));
    // A prefix is a good guess however much is missing: "momen" for momentum, "batch" for batch_size.
    const bool prefix = wanted.size() >= 3 && candidate.starts_with(wanted);
    const std::size_t limit = std::max<std::size_t>(1, std::min(wanted.size(), candidate.size()) / 3);
    if (distance > limit && !prefix) continue;
    const std::size_t rank = prefix ? std::min<std::size_t>(distance, 1) : distance;
    if (rank < best_distance) {
      best = candidate;
      best_distance = rank;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates) {
  const std::string_view best = nearest(word, candidates);
  return best.empty() ? std::string() : "; did you mean \"" + std::string(best) + "\"?";
}

std::string join(std::span<const std::string_view> words, std::string_view separator) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out += separator;
    out += words[i];
  }
  return out;
}

std::string quote(std::string_view text) {
  static constexpr std::size_t kLongest = 60;
  std::string out = "\"";
  for (const char c : text.substr(0, kLongest)) {
    if (c == '\n')
      out += "\\n";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      out += '?';
    else
      out += c;
  }
  if (text.size() > kLongest) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xC0) == 0x80) out.pop_back();  // cut UTF-8
    out += "...";
  }
  return out + '"';
}

}  // namespace tenfold
