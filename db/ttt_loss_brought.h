#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "db/report_document.h"
#include "db/ttt_loss_sections.h"

namespace tenfold {

// One metric of one configuration before and after adaptation, over the folds that have both. Shares in per cent.
struct Brought {
  std::size_t curves = 0;  // the place in the input
  std::string metric;
  std::vector<double> before, after, change;
};

// By metric, then by configuration.
std::vector<Brought> brought(const LossReportInput& input);
ReportSection brought_section(const LossReportInput& input, const std::vector<Brought>& results);

}  // namespace tenfold
