#pragma once

#include <filesystem>
#include <string>

#include "experiments/error.h"

namespace tenfold {

// What a user can do about a file that could not be written, by errno; a part of a sentence.
std::string storage_advice(int code);

// "<file>: <what>: No space left on device; free some space ..." of kind storage.
Error storage_error(const std::filesystem::path& file, const std::string& what, int code);

}  // namespace tenfold
