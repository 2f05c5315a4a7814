#pragma once

#include <span>
#include <string_view>

namespace tenfold {

// A metric's name, direction and meaning are declared here once; the trainer computes it
// (trainer/evaluation.h), the store and the reports read the direction.
struct MetricInfo {
  std::string_view name;
  bool higher_is_better;
  bool counts;  // has hits and total (a share of samples)
  std::string_view meaning;
  bool listed = true;  // may be named under `metrics`; others are measured where a key of their own asks for them
};

// Order is the index in EvaluationRow::metric within one binary; the store keeps names.
std::span<const MetricInfo> metrics();
int metric_index(std::string_view name);  // -1 when unknown

}  // namespace tenfold
