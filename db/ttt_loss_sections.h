#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "db/report_document.h"
#include "db/ttt_loss_data.h"

// The sections of the loss report, one function each.
namespace tenfold {

struct LossReportInput {
  std::vector<Curves> curves;
  std::vector<std::pair<std::size_t, std::size_t>> pairs;  // compared: (this, against)
  std::vector<std::string> metrics;
  int interval = 10;
};

// How a configuration is called: with its experiment where two are shown.
std::string name_of(const Curves& curves, const LossReportInput& input);
std::string folds_text(std::size_t folds);  // "1 fold", "5 folds"

ReportSection per_fold_section(const LossReportInput& input);
ReportSection averages_section(const LossReportInput& input);
ReportSection reductions_section(const LossReportInput& input);
ReportSection comparison_section(const LossReportInput& input);
ReportSection convergence_section(const LossReportInput& input);

}  // namespace tenfold
