#include "trainer/language_layout.h"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <set>
#include <string_view>

#include "experiments/error.h"
#include "trainer/transformer_layout.h"
#include "trainer/ttt_lm_layout.h"

namespace tenfold {
namespace {

class Placement {
 public:
  Placement(int count, const std::string& key) : count_(count), key_(key) {}

  void add(const std::string& pattern) {
    if (pattern == "all") return add_range(0, count_);
    if (pattern == "early" || pattern == "middle" || pattern == "late") return add_third(pattern);
    if (const auto n = number_after(pattern, "every:")) {
      for (int layer = *n - 1; layer < count_; layer += *n) layers_.insert(layer);
    } else if (const auto first = number_after(pattern, "first:")) {
      add_range(0, *first);
    } else if (const auto last = number_after(pattern, "last:")) {
      add_range(count_ - *last, count_);
    } else {
      add_index(pattern);
    }
  }

  std::vector<int> layers() const { return {layers_.begin(), layers_.end()}; }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ErrorKind::config, key_ + ": " + what); }
  std::string model_text() const {
    return "the model has " + std::to_string(count_) + (count_ == 1 ? " layer" : " layers");
  }
  void add_range(int begin, int end) {
    for (int layer = begin; layer < end; ++layer) layers_.insert(layer);
  }

  // Borders are rounded, so that early and late are of one size.
  void add_third(const std::string& pattern) {
    const int border[] = {0, static_cast<int>(std::lround(count_ / 3.0)),
                          static_cast<int>(std::lround(2 * count_ / 3.0)), count_};
    const int third = pattern == "early" ? 0 : pattern == "middle" ? 1 : 2;
    if (border[third] == border[third + 1])
      fail("'" + pattern + "' is a third of the layers, but " + model_text() + "; give an index, such as 0 or -1");
    add_range(border[third], border[third + 1]);
  }

  // N of "prefix:N"; nothing for another pattern.
  std::optional<int> number_after(const std::string& pattern, std::string_view prefix) const {
    if (!pattern.starts_with(prefix)) return std::nullopt;
    const auto n = integer(std::string_view(pattern).substr(prefix.size()));
    if (!n || *n < 1 || *n > count_)
      fail("'" + pattern + "': " + model_text() + ", so N is a whole number from 1 to " + std::to_string(count_));
    return static_cast<int>(*n);
  }

  void add_index(const std::string& pattern) {
    const auto index = integer(pattern);
    if (!index)
      fail("'" + pattern +
           "' names no layers; allowed are none, all, early, middle, late, every:N, first:N, last:N and indices "
           "(negative from the end), or a list of these");
    const std::int64_t layer = *index < 0 ? *index + count_ : *index;
    if (layer < 0 || layer >= count_)
      fail("there is no layer " + pattern + ": " + model_text() + ", 0 to " + std::to_string(count_ - 1) +
           ", or -1 to " + std::to_string(-count_) + " from the end");
    layers_.insert(static_cast<int>(layer));
  }

  static std::optional<std::int64_t> integer(std::string_view text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    // Sums with a number of layers stay inside the type.
    if (value > (std::int64_t{1} << 40) || value < -(std::int64_t{1} << 40)) return std::int64_t{1} << 40;
    return value;
  }

  int count_;
  const std::string& key_;
  std::set<int> layers_;
};

}  // namespace

std::vector<int> placed_layers(const std::vector<std::string>& patterns, int count, const std::string& key) {
  Placement placement(count, key);
  for (const std::string& pattern : patterns) {
    if (pattern != "none") {
      placement.add(pattern);
    } else if (patterns.size() > 1) {
      throw Error(ErrorKind::config, key + ": 'none' stands alone, and here it is one of " +
                                         std::to_string(patterns.size()) + " in a list; leave it out");
    }
  }
  return placement.layers();
}

ModelLayout language_layout(const ModelSpec& spec, int vocabulary) {
  if (vocabulary < 2)
    throw Error(ErrorKind::config, "model.kind: " + spec.kind +
                                       " needs a vocabulary of at least 2 tokens, and this has " +
                                       std::to_string(vocabulary) + " (dataset.vocabulary)");
  return spec.kind == "ttt_lm" ? ttt_lm_layout(spec, vocabulary) : transformer_lm_layout(spec, vocabulary);
}

}  // namespace tenfold
