#pragma once

#include <functional>
#include <string>

#include "datasets/dataset.h"

namespace tenfold {

// Runs `load` in a process of its own and gives back what it read. For libraries that were not written for hostile
// files: what a damaged one has them do to their memory ends that process, and is told here as Error(data) that names
// `path`; so is asking for much more memory or time than a file of this size can need. What `load` throws as an Error
// is thrown here again. least_s: seconds of a core that any file is given; further ones by its size.
Dataset::Parts load_apart(const std::string& path, const std::function<Dataset::Parts()>& load, unsigned least_s = 30);

}  // namespace tenfold
