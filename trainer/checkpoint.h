#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "trainer/protocol.h"

namespace tenfold {

// Tensors of an array by name, each (K, ...), float32, float64 or int64.
using StackedTensors = std::map<std::string, at::Tensor>;

// Writes them as <folder>/<array>-<step>.safetensors (durably: datasets/safetensors.h) and tells where.
CheckpointNotice write_checkpoint(const ArrayJob& job, std::int64_t step, const StackedTensors& tensors);

// One member's slice of every tensor, each (1, ...). Checks the SHA-256 first. Throws Error(data): file, and what is
// wrong with it.
StackedTensors read_checkpoint(const CheckpointRef& ref);

// `into` is (K, ...); fills member k from the (1, ...) tensor called `name`. Throws Error(data) where the name is
// missing or the shape or type is another.
void restore(const StackedTensors& member, const std::string& name, at::Tensor& into, std::int64_t k);

// When to write the next one: every_s seconds or every_steps steps, whichever comes first.
class CheckpointClock {
 public:
  CheckpointClock(double every_s, std::int64_t every_steps, std::int64_t step);
  bool due(std::int64_t step) const;
  void written(std::int64_t step);

 private:
  double every_s_;
  std::int64_t every_steps_;
  std::int64_t last_step_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace tenfold
