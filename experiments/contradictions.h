#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "experiments/spec.h"

namespace tenfold {

// Called with the dotted key to blame and what is wrong with it.
using ReportContradiction = std::function<void(std::string_view key, std::string message)>;

// What no single key can tell: required keys, and sections that do not fit together. `spec` is one configuration,
// method defaults filled in.
void report_contradictions(const ExperimentSpec& spec, const ReportContradiction& report);

// Whether `name` may stand in file names and shells: letters, digits, '.', '_' and '-', at most 100.
bool usable_name(std::string_view name);

}  // namespace tenfold
