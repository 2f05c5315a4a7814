#include <cstdint>

#include "tests/fuzz/targets.h"

// libFuzzer's door to one target, TENFOLD_FUZZ_TARGET; what leaves it as an exception ends the program and is a
// finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) noexcept {
  tenfold::fuzz::TENFOLD_FUZZ_TARGET(std::as_bytes(std::span(data, bytes)));
  return 0;
}
