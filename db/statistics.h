#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

// Statistics of cross-validation, where folds share training data and so are not independent.
namespace tenfold {

double mean(std::span<const double> values);       // NaN for none
double sample_sd(std::span<const double> values);  // divides by n - 1; NaN below two

// Distribution function and quantile of Student's t with `dof` degrees of freedom (any real number above 0), to
// about 1e-12: the regularised incomplete beta function by its continued fraction (DLMF 8.17.22).
double student_t_cdf(double t, double dof);
double student_t_quantile(double p, double dof);  // 0 < p < 1

struct Interval {
  double low = 0;
  double high = 0;
};

// The mean of J values (differences, or one metric) over folds and repeats, with the corrected resampled t of
// Nadeau and Bengio (2003): variance (1/J + q) s^2, q = n_test/n_train, J - 1 degrees of freedom.
struct CorrectedMean {
  std::size_t n = 0;
  double mean = 0;
  double sd = 0;
  std::optional<Interval> interval;
  std::optional<double> t, p;  // of "the mean is 0", two-sided
  std::string why_not;         // why there is no interval: fewer than 3 values, no spread
};
CorrectedMean corrected_mean(std::span<const double> values, double q, double confidence = 0.95);

// Bayesian correlated t (Corani and Benavoli 2015): where the mean difference lies, in probability. Positive
// differences count as better; |difference| <= rope as equivalent. rho/(1 - rho) = q.
struct CorrelatedT {
  double worse = 0, equivalent = 0, better = 0;
};
std::optional<CorrelatedT> correlated_t(std::span<const double> differences, double q, double rope);

// Holm's step-down adjustment; in the order given.
std::vector<double> holm(std::span<const double> p_values);

// Least-squares line through (x, y) with the standard error of its slope; empty below three points or without spread
// in x.
struct Slope {
  double value = 0;
  double standard_error = 0;
};
std::optional<Slope> least_squares_slope(std::span<const double> x, std::span<const double> y);

}  // namespace tenfold
