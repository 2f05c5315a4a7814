#pragma once

#include <filesystem>
#include <string>

#include "tests/db/store_fixture.h"

namespace tenfold {

// A finished small experiment with hand-made curves. On fold f, configuration c (batch 4 is 0, batch 8 is 1), pass s:
//   entropy = 1.0 + 0.1 f - 0.2 s - 0.05 c s,  diversity = 0.4 - 0.05 s
//   accuracy before 0.60 + 0.02 f, after 0.70 + 0.01 f + 0.03 c f, on fold 1 of batch 8 less 0.2   (nll: 1 - accuracy)
// Passes 0 to 3; class entropy = 1 - diversity + 0.01. One attempt of the first trial failed before.
void fill_store(const std::filesystem::path& db, const std::string& name = "small", std::size_t unfinished = 0);

}  // namespace tenfold
