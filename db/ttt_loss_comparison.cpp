#include "db/ttt_loss_comparison.h"

#include <cmath>
#include <limits>

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Folds that both sides have: the same repeat and fold, and the same samples where both know them.
struct FoldPair {
  const FoldCurve* a;
  const FoldCurve* b;
};

std::vector<FoldPair> pair_folds(const Curves& a, const Curves& b) {
  std::vector<FoldPair> pairs;
  for (const FoldCurve& x : a.folds)
    for (const FoldCurve& y : b.folds) {
      const bool same_samples =
          x.trial.split_hash == y.trial.split_hash || x.trial.split_hash.empty() || y.trial.split_hash.empty();
      if (x.trial.repeat == y.trial.repeat && x.trial.fold == y.trial.fold && same_samples) pairs.push_back({&x, &y});
    }
  return pairs;
}

}  // namespace

std::vector<Comparison> compare(const Curves& a, const Curves& b, const std::vector<std::string>& metrics,
                                std::size_t& paired) {
  const std::vector<FoldPair> pairs = pair_folds(a, b);
  paired = pairs.size();
  const double q = std::isnan(a.q) ? b.q : a.q;
  std::vector<Comparison> comparisons;
  const auto add = [&](const std::string& what, int digits, auto value) {
    std::vector<double> left, right, differences;
    for (const FoldPair& pair : pairs) {
      const double x = value(*pair.a), y = value(*pair.b);
      if (std::isnan(x) || std::isnan(y)) continue;
      left.push_back(x);
      right.push_back(y);
      differences.push_back(x - y);
    }
    if (!differences.empty())
      comparisons.push_back({what, mean(left), mean(right), corrected_mean(differences, q), digits});
  };
  for (const Quantity quantity : kCompared) {
    const std::string name = to_string(quantity);
    add(name + ", last", 4, [&](const FoldCurve& fold) { return value_of(fold.points.back(), quantity); });
    add(name + ", last - first", 4, [&](const FoldCurve& fold) {
      return value_of(fold.points.back(), quantity) - value_of(fold.points.front(), quantity);
    });
  }
  for (const std::string& metric : metrics) {
    const double factor = is_share(metric) ? 100 : 1;
    add(metric + (is_share(metric) ? " %" : "") + " after", is_share(metric) ? 2 : 4, [&](const FoldCurve& fold) {
      const auto found = fold.after.find(metric);
      return found == fold.after.end() ? kNan : factor * found->second;
    });
  }
  return comparisons;
}

}  // namespace tenfold
