#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "datasets/philox.h"
#include "trainer/collective.h"

// Where an array is computed. The array code is the same on a CPU and on a GPU; what differs is here: how a step is
// repeated (called, or captured once as a CUDA graph and replayed), how it finds its row of the step tables (a host
// counter, or one on the device that the graph advances), random masks, and the fused optimizer update.
namespace tenfold {

// Which step of the tables is being computed. The device's copy is read by captured work.
struct StepCounter {
  std::int64_t host = 0;
  at::Tensor device;  // int64 (1); undefined on a CPU
};

// Random bits of one step's dropout: member k draws from (key[k], site, epoch[step, k]) at position[step, k] + b.
struct DropoutTables {
  std::vector<PhiloxKey> keys;     // (K)
  std::vector<float> probability;  // (K)
  at::Tensor device_keys;          // GPU: int64 (K, 2)
  at::Tensor device_probability;   // GPU: float (K)
  at::Tensor epoch;                // int64 (T, K)
  at::Tensor position;             // int64 (T, K)
};

// One member's update rule; see optimizer.h for the formulas.
struct UpdateRule {
  float weight_decay = 0, beta1 = 0, beta2 = 0, eps = 0, momentum = 0;
  float clip_norm = 0;  // 0: none
  float nesterov = 0;   // 0 or 1
  float decoupled = 0;  // weight decay on the parameter (AdamW), not in the gradient
};

inline constexpr int kParameterGroups = 4;  // as ParameterGroup counts them

struct UpdateArguments {
  bool adam = true;                                // else SGD
  std::vector<at::Tensor> parameters;              // each (K, ...), contiguous, updated in place
  std::vector<at::Tensor> gradients;               // as parameters
  std::vector<at::Tensor> moment1;                 // Adam's m, SGD's momentum buffer
  std::vector<at::Tensor> moment2;                 // Adam's v; empty for SGD
  at::Tensor applied;                              // (K) float: updates applied so far, advanced where active
  at::Tensor lr;                                   // (K)
  at::Tensor active;                               // (K) 1 or 0: a member at rest keeps every bit
  const std::vector<UpdateRule>* rules = nullptr;  // (K)
  at::Tensor device_rules;                         // GPU: float (K, 8)
  at::Tensor grad_norm;                            // (K) out: L2 norm over all parameters before clipping
  // Groups of parameters. Clipping is by the norm over all of them.
  std::vector<std::int32_t> groups;  // of each parameter
  at::Tensor device_groups;          // GPU: the same, int32
  at::Tensor rate_factors;           // (K, kParameterGroups): lr of a group is lr * factor; undefined: 1
  at::Tensor group_grad_norms;       // (K, kParameterGroups) out, before clipping; undefined: not wanted
  at::Tensor group_update_norms;     // (K, kParameterGroups) out, L2 norm of what changed; wanted with the other
};

class Compute {
 public:
  virtual ~Compute() = default;
  virtual at::Device device() const = 0;
  virtual std::string description() const = 0;

  // Makes `body` repeatable. On a GPU it is run a few times to warm up and then captured: until the first replay it
  // must change nothing (all members at rest), and every tensor it touches must outlive the result.
  virtual std::function<void()> repeatable(std::function<void()> body, StepCounter& counter) = 0;

  virtual StepCounter make_counter() const = 0;
  virtual void set_counter(StepCounter& counter, std::int64_t step) const = 0;
  virtual at::Tensor row(const at::Tensor& table, const StepCounter& counter) const = 0;  // table[step]
  virtual void store(at::Tensor& table, const StepCounter& counter, const at::Tensor& value) const = 0;

  // Fills mask (K, B, units), or (1, B, units) when all members draw alike, with 0 or 1/(1 - probability).
  virtual void dropout_mask(at::Tensor& mask, const DropoutTables& tables, const StepCounter& counter,
                            std::uint32_t site) const = 0;
  virtual void update(const UpdateArguments& arguments) const = 0;

  // Of matrix products from now on: "float32", or "tf32" where the device has it.
  virtual void set_precision(const std::string& precision) const = 0;

  // The ranks that `link` joins, for tensors of this device; all have one of its kind. Throws Error(device) or
  // Error(communication).
  virtual std::unique_ptr<Collective> make_collective(std::unique_ptr<GroupLink> link) const = 0;

  virtual void synchronise() const = 0;
  virtual std::int64_t peak_memory_bytes() const = 0;
  virtual std::int64_t memory_bytes() const = 0;  // what the device has
};

std::unique_ptr<Compute> make_cpu_compute();
// Loads libtenfold_cuda.so (and with it LibTorch's CUDA half) beside the executable. Throws Error(device).
std::unique_ptr<Compute> make_cuda_compute(int device);
// "cpu" or "cuda:N"
std::unique_ptr<Compute> make_compute(const std::string& device);

}  // namespace tenfold
