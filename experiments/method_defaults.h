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

// model.ttt.base_lr where it is not given: a recurrent net's inner loop sees a batch at each step; language models as
// published (Sun et al. 2024, section 2.7).
inline double default_inner_rate(const ModelSpec& model) {
  return model.kind == "ttt_rnn" ? 0.01 : model.ttt.kind == "linear" ? 1.0 : 0.1;
}

MethodDefaults method_defaults(std::string_view method);  // throws Error(internal) on an unknown method

}  // namespace tenfold
