#include "datasets/memory_need.h"

#include <unistd.h>

#include "experiments/error.h"

namespace tenfold {

void require_memory(std::uint64_t bytes, const std::string& name) {
  const long pages = ::sysconf(_SC_PHYS_PAGES), page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return;
  const std::uint64_t memory = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes);
  if (bytes <= memory) return;
  const auto gib = [](std::uint64_t amount) { return std::to_string((amount + (1u << 29)) >> 30) + " GiB"; };
  throw Error(ErrorKind::data, name + ": takes " + gib(bytes) + " of memory, and this machine has " + gib(memory) +
                                   "; use less of it, or a larger machine");
}

}  // namespace tenfold
