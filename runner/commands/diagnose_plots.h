#pragma once

#include <filesystem>
#include <string>

#include "db/inner_loop_statistics.h"

namespace tenfold {

// Figure 5 of one layer in three panels (the curves, the per-step improvement, the cumulative benefit; moving averages
// of ten positions): `<name>.csv` with the numbers, `<name>.gnuplot`, and `<name>.png` and `<name>.svg` drawn by
// gnuplot in `folder`. Returns why the pictures are missing; empty when they are there. Throws Error(storage) when the
// data cannot be written.
std::string plot_figure5(const std::filesystem::path& folder, const std::string& name, const std::string& title,
                         const InnerLossCurves& curves);

}  // namespace tenfold
