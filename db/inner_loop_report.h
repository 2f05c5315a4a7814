#pragma once

#include <span>
#include <string>

#include "db/inner_loop_data.h"
#include "db/report_document.h"

namespace tenfold {

// The text report of a diagnosis: for each layer what was covered, its curves, their order, benefits and trends, and
// what is wrong with it, why, and what to change. A layer that is well has no such part.
ReportDocument inner_loop_report(const std::string& title, std::span<const InnerLoopSubject> subjects);

// "layer 3", or "all layers" where none is known.
std::string layer_name(const InnerLoopLayer& layer);

}  // namespace tenfold
