#include "experiments/number_text.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace tenfold {

std::string number_text(double value) {
  if (value == 0.0) return "0";  // also for -0.0, which is the same number
  char buffer[40];
  const auto write = [&](std::chars_format format) {
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr);
  };
  const std::string scientific = write(std::chars_format::scientific);
  const std::size_t e = scientific.find('e');
  if (e == std::string::npos) return scientific;  // nan, inf
  const int exponent = std::atoi(scientific.c_str() + e + 1);
  return exponent >= -4 && exponent < 16 ? write(std::chars_format::fixed) : scientific;
}

}  // namespace tenfold
