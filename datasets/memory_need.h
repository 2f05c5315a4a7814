#pragma once

#include <cstdint>
#include <string>

namespace tenfold {

// Throws Error(data) where `bytes` are more than this machine's memory: a clear word before the system kills the
// process, which it does only once the memory is touched.
void require_memory(std::uint64_t bytes, const std::string& name);

}  // namespace tenfold
