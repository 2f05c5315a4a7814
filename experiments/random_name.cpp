#include "experiments/random_name.h"

#include <cstdio>
#include <random>

namespace tenfold {

std::string random_name() {
  std::random_device random;
  char text[24];
  std::snprintf(text, sizeof text, "%08x%08x", random(), random());
  return text;
}

}  // namespace tenfold
