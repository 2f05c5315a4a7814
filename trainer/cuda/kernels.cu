#include "trainer/cuda/kernels.h"

#include <algorithm>

namespace tenfold::cuda {
namespace {

constexpr int kThreads = 256;

// Columns of an UpdateRule (trainer/compute.h).
enum Rule { kWeightDecay, kBeta1, kBeta2, kEps, kMomentum, kClipNorm, kNesterov, kDecoupled, kRules };
enum Coefficient { kScale, kStepSize, kCorrection2Root, kActive, kCoefficients };

__device__ uint4 philox(uint4 c, uint2 k) {
  for (int round = 0; round < 10; ++round) {
    const unsigned high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
    const unsigned high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
    c = make_uint4(high1 ^ c.y ^ k.x, low1, high0 ^ c.w ^ k.y, low0);
    k.x += 0x9E3779B9u;
    k.y += 0xBB67AE85u;
  }
  return c;
}

__global__ void dropout_kernel(float* mask, std::int64_t rows, std::int64_t units, const std::int64_t* keys,
                               const float* probability, const std::int64_t* epoch, const std::int64_t* position,
                               const std::int64_t* step, unsigned site, std::int64_t members) {
  const std::int64_t k = blockIdx.y, blocks_per_row = (units + 3) / 4;
  const std::int64_t place = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (place >= rows * blocks_per_row) return;
  const std::int64_t row = place / blocks_per_row, block = place % blocks_per_row, at = *step * members + k;
  const unsigned long long index =
      static_cast<unsigned long long>(position[at] + row) * static_cast<unsigned long long>(blocks_per_row) + block;
  const uint4 words = philox(make_uint4(static_cast<unsigned>(index), static_cast<unsigned>(index >> 32),
                                        static_cast<unsigned>(epoch[at]), site),
                             make_uint2(static_cast<unsigned>(keys[2 * k]), static_cast<unsigned>(keys[2 * k + 1])));
  const float p = probability[k], keep = p < 1 ? 1.0f / (1.0f - p) : 0.0f;
  const unsigned threshold = static_cast<unsigned>(llround(static_cast<double>(p) * 16777216.0));
  float* target = mask + (k * rows + row) * units + 4 * block;
  const unsigned word[4] = {words.x, words.y, words.z, words.w};
  for (std::int64_t j = 0; j < 4 && 4 * block + j < units; ++j) target[j] = (word[j] >> 8) >= threshold ? keep : 0.0f;
}

__global__ void squares_kernel(TensorList tensors, std::int64_t members, int first_tensor, double* partial) {
  __shared__ double sums[kThreads];
  const std::int64_t k = blockIdx.x, n = tensors.size[blockIdx.y];
  const float* gradient = tensors.gradient[blockIdx.y] + k * n;
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < n; i += kThreads) sum += static_cast<double>(gradient[i]) * gradient[i];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) partial[(first_tensor + static_cast<int>(blockIdx.y)) * members + k] = sums[0];
}

__global__ void prepare_kernel(const double* partial, int tensors, std::int64_t members, const float* rules,
                               const float* lr, const float* active, float* applied, float* grad_norm,
                               float* coefficients, bool adam) {
  const std::int64_t k = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x;
  if (k >= members) return;
  double sum = 0;
  for (int i = 0; i < tensors; ++i) sum += partial[i * members + k];
  const double norm = sqrt(sum);
  grad_norm[k] = static_cast<float>(norm);
  const float* rule = rules + k * kRules;
  float* out = coefficients + k * kCoefficients;
  out[kActive] = active[k];
  if (active[k] == 0) return;
  applied[k] += 1;
  out[kScale] = rule[kClipNorm] > 0 ? static_cast<float>(fmin(1.0, rule[kClipNorm] / (norm + 1e-6))) : 1.0f;
  const double correction1 = 1 - pow(static_cast<double>(rule[kBeta1]), static_cast<double>(applied[k]));
  const double correction2 = 1 - pow(static_cast<double>(rule[kBeta2]), static_cast<double>(applied[k]));
  out[kStepSize] = adam ? lr[k] / static_cast<float>(correction1) : lr[k];
  out[kCorrection2Root] = static_cast<float>(sqrt(correction2));
}

// Sum over the threads of a block, for its thread 0; in an order that is always the same.
__device__ double block_sum(double value, double* sums) {
  sums[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[0];
}

template <bool kWantsChanges>
__global__ void update_kernel(TensorList tensors, const float* rules, const float* lr, const float* coefficients,
                              const float* factors, int first_tensor, double* changes, bool adam) {
  const std::int64_t k = blockIdx.z;
  const float* c = coefficients + k * kCoefficients;
  const bool active = c[kActive] != 0;
  if (!kWantsChanges && !active) return;
  double change = 0;
  if (active) {
    const float* rule = rules + k * kRules;
    const std::int64_t n = tensors.size[blockIdx.y];
    const float factor = factors == nullptr ? 1.0f : factors[k * kGroups + tensors.group[blockIdx.y]];
    const float rate = lr[k] * factor, step_size = c[kStepSize] * factor;
    const bool decoupled = rule[kDecoupled] != 0;
    const float shrink = decoupled ? 1.0f - rate * rule[kWeightDecay] : 1.0f;
    const float coupled = decoupled ? 0.0f : rule[kWeightDecay];
    for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < n;
         i += std::int64_t{gridDim.x} * blockDim.x) {
      const std::int64_t at = k * n + i;
      float* parameter = tensors.parameter[blockIdx.y] + at;
      float* m = tensors.moment1[blockIdx.y] + at;
      const float before = *parameter;
      const float g = tensors.gradient[blockIdx.y][at] * c[kScale] + coupled * before;
      float after;
      if (adam) {
        float* v = tensors.moment2[blockIdx.y] + at;
        *m = rule[kBeta1] * *m + (1.0f - rule[kBeta1]) * g;
        *v = rule[kBeta2] * *v + (1.0f - rule[kBeta2]) * g * g;
        after = before * shrink - step_size * *m / (sqrtf(*v) / c[kCorrection2Root] + rule[kEps]);
      } else {
        *m = rule[kMomentum] * *m + g;
        const float direction = rule[kNesterov] != 0 ? g + rule[kMomentum] * *m : *m;
        after = before * shrink - rate * direction;
      }
      *parameter = after;
      if (kWantsChanges) {
        const double difference = static_cast<double>(after) - before;
        change += difference * difference;
      }
    }
  }
  if (kWantsChanges) {
    __shared__ double sums[kThreads];
    const double sum = block_sum(change, sums);
    const std::int64_t row = (first_tensor + static_cast<std::int64_t>(blockIdx.y)) * gridDim.z + k;
    if (threadIdx.x == 0) changes[row * kMostBlocks + blockIdx.x] = sum;
  }
}

// One block for a member and group.
__global__ void group_norms_kernel(const double* partial, const double* changes, const int* group, int tensors,
                                   std::int64_t members, float* grad_norms, float* update_norms) {
  __shared__ double sums[kThreads];
  const std::int64_t k = blockIdx.x;
  const int g = static_cast<int>(blockIdx.y);
  double change = 0, squares = 0;
  for (int i = 0; i < tensors; ++i) {
    if (group[i] != g) continue;
    const std::int64_t row = i * members + k;
    squares += partial[row];
    for (int block = static_cast<int>(threadIdx.x); block < kMostBlocks; block += kThreads)
      change += changes[row * kMostBlocks + block];
  }
  const double sum = block_sum(change, sums);
  if (threadIdx.x == 0) {
    grad_norms[k * kGroups + g] = static_cast<float>(sqrt(squares));
    update_norms[k * kGroups + g] = static_cast<float>(sqrt(sum));
  }
}

}  // namespace

void dropout_mask(float* mask, std::int64_t members, std::int64_t rows, std::int64_t units, const std::int64_t* keys,
                  const float* probability, const std::int64_t* epoch, const std::int64_t* position,
                  const std::int64_t* step, std::uint32_t site, cudaStream_t stream) {
  const std::int64_t blocks = rows * ((units + 3) / 4);
  const dim3 grid(static_cast<unsigned>((blocks + kThreads - 1) / kThreads), static_cast<unsigned>(members));
  dropout_kernel<<<grid, kThreads, 0, stream>>>(mask, rows, units, keys, probability, epoch, position, step, site,
                                                members);
}

void squares(const TensorList& tensors, std::int64_t members, int first_tensor, double* partial, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(members), static_cast<unsigned>(tensors.count));
  squares_kernel<<<grid, kThreads, 0, stream>>>(tensors, members, first_tensor, partial);
}

void prepare_update(const double* partial, int tensors, std::int64_t members, const float* rules, const float* lr,
                    const float* active, float* applied, float* grad_norm, float* coefficients, bool adam,
                    cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((members + kThreads - 1) / kThreads);
  prepare_kernel<<<blocks, kThreads, 0, stream>>>(partial, tensors, members, rules, lr, active, applied, grad_norm,
                                                  coefficients, adam);
}

void update(const TensorList& tensors, std::int64_t members, const float* rules, const float* lr,
            const float* coefficients, const float* factors, int first_tensor, double* changes, bool adam,
            cudaStream_t stream) {
  std::int64_t largest = 1;
  for (int i = 0; i < tensors.count; ++i) largest = std::max(largest, tensors.size[i]);
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>((largest + kThreads - 1) / kThreads, kMostBlocks));
  const dim3 grid(blocks, static_cast<unsigned>(tensors.count), static_cast<unsigned>(members));
  if (changes == nullptr)
    update_kernel<false>
        <<<grid, kThreads, 0, stream>>>(tensors, rules, lr, coefficients, factors, first_tensor, changes, adam);
  else
    update_kernel<true>
        <<<grid, kThreads, 0, stream>>>(tensors, rules, lr, coefficients, factors, first_tensor, changes, adam);
}

void group_norms(const double* partial, const double* changes, const int* group, int tensors, std::int64_t members,
                 float* grad_norms, float* update_norms, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(members), kGroups);
  group_norms_kernel<<<grid, kThreads, 0, stream>>>(partial, changes, group, tensors, members, grad_norms,
                                                    update_norms);
}

}  // namespace tenfold::cuda
