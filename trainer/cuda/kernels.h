#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// The kernels behind compute_cuda.cpp, on plain pointers and one stream. Members are independent: each is summed and
// updated by threads of its own, in an order that does not depend on the others.
namespace tenfold::cuda {

inline constexpr int kMostTensors = 64;  // in one launch
inline constexpr int kGroups = 4;        // of parameters
inline constexpr int kMostBlocks = 256;  // of one tensor and member in an update

// Slices of tensors that are (K, size[i]) each.
struct TensorList {
  float* parameter[kMostTensors];
  const float* gradient[kMostTensors];
  float* moment1[kMostTensors];
  float* moment2[kMostTensors];
  std::int64_t size[kMostTensors];
  int group[kMostTensors];
  int count;
};

// mask (members, rows, units): 0 or 1/(1 - probability[k]), from Philox at (position[step, k] + row, unit / 4;
// epoch[step, k], site) under key[k]. The step is read from the device.
void dropout_mask(float* mask, std::int64_t members, std::int64_t rows, std::int64_t units, const std::int64_t* keys,
                  const float* probability, const std::int64_t* epoch, const std::int64_t* position,
                  const std::int64_t* step, std::uint32_t site, cudaStream_t stream);

// partial[(first_tensor + i) * members + k] = sum of squares of gradient i of member k
void squares(const TensorList& tensors, std::int64_t members, int first_tensor, double* partial, cudaStream_t stream);

// Norm over all tensors, clipping scale and bias corrections of each member; advances `applied` of the active ones.
// rules (K, 8) as UpdateRule; coefficients (K, 4): scale, step size, root of correction 2, active.
void prepare_update(const double* partial, int tensors, std::int64_t members, const float* rules, const float* lr,
                    const float* active, float* applied, float* grad_norm, float* coefficients, bool adam,
                    cudaStream_t stream);

// factors (K, kGroups): what lr is multiplied by for a tensor's group; null: 1. changes: null, or (tensors, K,
// kMostBlocks), set to sums of squares of what changed, tensor i at first_tensor + i.
void update(const TensorList& tensors, std::int64_t members, const float* rules, const float* lr,
            const float* coefficients, const float* factors, int first_tensor, double* changes, bool adam,
            cudaStream_t stream);

// grad_norms, update_norms (K, kGroups) from partial and changes as above; group of each of the tensors, on the device.
void group_norms(const double* partial, const double* changes, const int* group, int tensors, std::int64_t members,
                 float* grad_norms, float* update_norms, cudaStream_t stream);

}  // namespace tenfold::cuda
