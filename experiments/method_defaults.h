#pragma once

#include <string_view>

#include "experiments/spec.h"

namespace tenfold {

// What the optional values of TttSpec become for a method.
struct MethodDefaults {
  int steps;
  int batch_size;
  double lr;
  const char* parameters;
  int query_size;  // 0: the whole held-out fold
  const char* optimizer;
  double weight_decay;
  double clip_norm;  // 0: none
  const char* mode;
  bool shuffle;
  ScheduleSpec schedule;
  bool adapts;  // false: no optimizer update whatever the file says
};

MethodDefaults method_defaults(std::string_view method);  // throws Error(internal) on an unknown method

}  // namespace tenfold
