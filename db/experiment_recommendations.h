#pragma once

#include <vector>

#include "db/experiment_report_data.h"
#include "db/report_document.h"

namespace tenfold {

// What a configuration's numbers call for. Each names its condition, the threshold and the value measured.
std::vector<ReportFinding> recommendations(const MeasuredConfiguration& measured);

// "overfitting", "none seen" or "unknown", with the numbers.
std::string overfitting_status(const MeasuredConfiguration& measured);

}  // namespace tenfold
