#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "datasets/safetensors.h"
#include "experiments/spec.h"
#include "trainer/protocol.h"

namespace tenfold {

// Tensors of an array by name, each (K, ...), float32, float64, int64 or bytes.
using StackedTensors = std::map<std::string, at::Tensor>;

// Writes them as <folder>/<array>-<step><suffix>.safetensors (durably: datasets/safetensors.h) and tells where, for
// members 0 .. K-1.
CheckpointNotice write_checkpoint(const ArrayJob& job, std::int64_t step, const StackedTensors& tensors,
                                  const std::string& suffix = "");

// One member's slice of every tensor, each (1, ...), and the file that it is from.
struct MemberTensors {
  std::string path;
  StackedTensors tensors;
  bool has(const std::string& name) const { return tensors.contains(name); }
};

// Reads members of checkpoints. A file's SHA-256 is checked once, when its first member is read: the members of an
// array are mostly of one file.
class CheckpointReader {
 public:
  // Throws Error(data): file, and what is wrong with it.
  MemberTensors read(const CheckpointRef& ref);

 private:
  std::map<std::pair<std::string, std::string>, SafetensorsFile> files_;  // by path and SHA-256
};

// `into` is (K, ...); fills member k from the (1, ...) tensor called `name`. Throws Error(data), naming the file, where
// the name is missing or the shape or type is another.
void restore(const MemberTensors& member, const std::string& name, at::Tensor& into, std::int64_t k);

// When to write the next one: every_s seconds or every_steps steps, whichever comes first, and at every multiple of
// keep_every_steps, for those are to be kept.
class CheckpointClock {
 public:
  CheckpointClock(const CheckpointSpec& spec, std::int64_t step);
  bool due(std::int64_t step) const;
  // Steps from `step` on until a number of steps asks for one, at least 1; a very large number where none is given.
  std::int64_t steps_until_due(std::int64_t step) const;
  void written(std::int64_t step);

 private:
  double every_s_;
  std::int64_t every_steps_, keep_every_steps_;  // 0: not given
  std::int64_t last_step_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace tenfold
