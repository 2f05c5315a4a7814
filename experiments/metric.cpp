#include "experiments/metric.h"

#include <array>

namespace tenfold {
namespace {

constexpr std::array kMetrics = {
    MetricInfo{"accuracy", true, true, "share of samples whose likeliest class is the label"},
    MetricInfo{"balanced_accuracy", true, false, "mean over the classes of their recall"},
    MetricInfo{"macro_f1", true, false, "mean over the classes of the F1 score"},
    MetricInfo{"nll", false, false, "mean negative log likelihood of the label, nats"},
    MetricInfo{"brier", false, false, "mean squared distance of the probabilities from the one-hot label"},
    MetricInfo{"ece", false, false, "expected calibration error, 15 equal-width bins of confidence"},
    MetricInfo{"perplexity", false, false, "exp(nll)"},
    MetricInfo{"bits_per_byte", false, false, "negative log likelihood of a text in bits over its bytes"},
    MetricInfo{"auroc_unseen", true, false,
               "area under the ROC of max-softmax: samples of the held-out class against the others"},
    MetricInfo{"detection_rate_5", true, true, "share of held-out-class samples found at 5 % false alarms"},
    MetricInfo{"minimal_pairs", true, true,
               "share of minimal pairs whose right variant is likelier, ties a half; the mean over the file's tasks",
               /*listed=*/false},
};

}  // namespace

std::span<const MetricInfo> metrics() { return kMetrics; }

int metric_index(std::string_view name) {
  for (std::size_t i = 0; i < kMetrics.size(); ++i)
    if (kMetrics[i].name == name) return static_cast<int>(i);
  return -1;
}

}  // namespace tenfold
