#include "trainer/kernels_cpu.h"

#include <algorithm>
#include <cmath>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define TENFOLD_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define TENFOLD_CLONES
#endif

namespace tenfold::cpu {
namespace {

constexpr int kLanes = 16;  // Philox blocks, or partial sums, computed side by side

inline __attribute__((always_inline)) float sum_of(const float* lanes) {
  float sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

}  // namespace

TENFOLD_CLONES
void dropout_rows(float* out, std::int64_t rows, std::int64_t units, PhiloxKey key, std::uint32_t epoch,
                  std::uint32_t site, std::int64_t first_position, std::uint32_t threshold, float keep) {
  const std::int64_t blocks_per_row = (units + 3) / 4;
  const bool whole = units % (4 * kLanes) == 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::uint64_t first =
        static_cast<std::uint64_t>(first_position + row) * static_cast<std::uint64_t>(blocks_per_row);
    float* target = out + row * units;
    for (std::int64_t block = 0; block < blocks_per_row; block += kLanes) {
      std::uint32_t c0[kLanes], c1[kLanes], c2[kLanes], c3[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const std::uint64_t index = first + static_cast<std::uint64_t>(block + i);
        c0[i] = static_cast<std::uint32_t>(index);
        c1[i] = static_cast<std::uint32_t>(index >> 32);
        c2[i] = epoch;
        c3[i] = site;
      }
      std::uint32_t k0 = key[0], k1 = key[1];
      for (int round = 0; round < 10; ++round) {
        for (int i = 0; i < kLanes; ++i) {
          const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c0[i];
          const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c2[i];
          c0[i] = static_cast<std::uint32_t>(p1 >> 32) ^ c1[i] ^ k0;
          c1[i] = static_cast<std::uint32_t>(p1);
          c2[i] = static_cast<std::uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
          c3[i] = static_cast<std::uint32_t>(p0);
        }
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
      }
      if (whole) {
        float* place = target + 4 * block;
        for (int i = 0; i < kLanes; ++i) {
          place[4 * i + 0] = (c0[i] >> 8) >= threshold ? keep : 0.0f;
          place[4 * i + 1] = (c1[i] >> 8) >= threshold ? keep : 0.0f;
          place[4 * i + 2] = (c2[i] >> 8) >= threshold ? keep : 0.0f;
          place[4 * i + 3] = (c3[i] >> 8) >= threshold ? keep : 0.0f;
        }
        continue;
      }
      for (int i = 0; i < kLanes; ++i) {
        const std::uint32_t words[4] = {c0[i], c1[i], c2[i], c3[i]};
        for (std::int64_t j = 0; j < 4; ++j) {
          const std::int64_t unit = 4 * (block + i) + j;
          if (unit < units) target[unit] = (words[j] >> 8) >= threshold ? keep : 0.0f;
        }
      }
    }
  }
}

TENFOLD_CLONES
double sum_of_squares(const float* values, std::int64_t n) {
  double partial[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      partial[lane] += value * value;
    }
  for (int lane = 0; i < n; ++i, ++lane) partial[lane] += static_cast<double>(values[i]) * values[i];
  double sum = 0;
  for (const double value : partial) sum += value;
  return sum;
}

TENFOLD_CLONES
double sum_of_squared_differences(const float* a, const float* b, std::int64_t n) {
  double partial[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane) {
      const double difference = static_cast<double>(a[i + lane]) - static_cast<double>(b[i + lane]);
      partial[lane] += difference * difference;
    }
  for (int lane = 0; i < n; ++i, ++lane) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    partial[lane] += difference * difference;
  }
  double sum = 0;
  for (const double value : partial) sum += value;
  return sum;
}

TENFOLD_CLONES
void adam(float* __restrict parameter, const float* __restrict gradient, float* __restrict m, float* __restrict v,
          std::int64_t n, const UpdateRule& rule, float lr, float scale, float correction1, float correction2_root) {
  const float shrink = rule.decoupled != 0 ? 1.0f - lr * rule.weight_decay : 1.0f;
  const float coupled = rule.decoupled != 0 ? 0.0f : rule.weight_decay;
  const float beta1 = rule.beta1, beta2 = rule.beta2, eps = rule.eps, step_size = lr / correction1;
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * scale + coupled * parameter[i];
    m[i] = beta1 * m[i] + (1.0f - beta1) * g;
    v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
    parameter[i] = parameter[i] * shrink - step_size * m[i] / (std::sqrt(v[i]) / correction2_root + eps);
  }
}

TENFOLD_CLONES
void sgd(float* __restrict parameter, const float* __restrict gradient, float* __restrict buffer, std::int64_t n,
         const UpdateRule& rule, float lr, float scale) {
  const float shrink = rule.decoupled != 0 ? 1.0f - lr * rule.weight_decay : 1.0f;
  const float coupled = rule.decoupled != 0 ? 0.0f : rule.weight_decay;
  const float momentum = rule.momentum;
  const bool nesterov = rule.nesterov != 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = gradient[i] * scale + coupled * parameter[i];
    buffer[i] = momentum * buffer[i] + g;
    const float direction = nesterov ? g + momentum * buffer[i] : buffer[i];
    parameter[i] = parameter[i] * shrink - lr * direction;
  }
}

TENFOLD_CLONES
void norm_relu_mask(float* __restrict z, float* __restrict out, float* __restrict inverse_sd, std::int64_t rows,
                    std::int64_t n, const float* __restrict bias, const float* __restrict weight,
                    const float* __restrict shift, const float* __restrict mask, float eps) {
  const std::int64_t whole = n - n % kLanes;
  for (std::int64_t row = 0; row < rows; ++row) {
    float* x = z + row * n;
    float* y = out + row * n;
    float sums[kLanes] = {}, squares[kLanes] = {};
    for (std::int64_t i = 0; i < whole; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) {
        x[i + lane] += bias[i + lane];
        sums[lane] += x[i + lane];
      }
    for (std::int64_t i = whole; i < n; ++i) {
      x[i] += bias[i];
      sums[i - whole] += x[i];
    }
    const float mean = sum_of(sums) / static_cast<float>(n);
    for (std::int64_t i = 0; i < whole; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) {
        x[i + lane] -= mean;
        squares[lane] += x[i + lane] * x[i + lane];
      }
    for (std::int64_t i = whole; i < n; ++i) {
      x[i] -= mean;
      squares[i - whole] += x[i] * x[i];
    }
    const float inverse = 1.0f / std::sqrt(sum_of(squares) / static_cast<float>(n) + eps);
    inverse_sd[row] = inverse;
    if (mask == nullptr) {
      for (std::int64_t i = 0; i < n; ++i) {
        x[i] *= inverse;
        const float value = x[i] * weight[i] + shift[i];
        y[i] = value < 0 ? 0.0f : value;  // a NaN stays one
      }
      continue;
    }
    const float* keep = mask + row * n;
    for (std::int64_t i = 0; i < n; ++i) {
      x[i] *= inverse;
      const float value = x[i] * weight[i] + shift[i];
      y[i] = (value < 0 ? 0.0f : value) * keep[i];
    }
  }
}

TENFOLD_CLONES
void norm_relu_mask_backward(float* __restrict dz, const float* __restrict dout, const float* __restrict xhat,
                             const float* __restrict inverse_sd, std::int64_t rows, std::int64_t n,
                             const float* __restrict weight, const float* __restrict shift,
                             const float* __restrict mask, float* __restrict d_bias, float* __restrict d_weight,
                             float* __restrict d_shift) {
  const std::int64_t whole = n - n % kLanes;
  std::fill_n(d_bias, n, 0.0f);
  std::fill_n(d_weight, n, 0.0f);
  std::fill_n(d_shift, n, 0.0f);
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* x = xhat + row * n;
    const float* g = dout + row * n;
    float* d = dz + row * n;
    for (std::int64_t i = 0; i < n; ++i) {
      const float keep = mask == nullptr ? 1.0f : mask[row * n + i];
      const float through = x[i] * weight[i] + shift[i] > 0 ? g[i] * keep : 0.0f;
      d_shift[i] += through;
      d_weight[i] += through * x[i];
      d[i] = through * weight[i];
    }
    float sums[kLanes] = {}, products[kLanes] = {};
    for (std::int64_t i = 0; i < whole; i += kLanes)
      for (int lane = 0; lane < kLanes; ++lane) {
        sums[lane] += d[i + lane];
        products[lane] += d[i + lane] * x[i + lane];
      }
    for (std::int64_t i = whole; i < n; ++i) {
      sums[i - whole] += d[i];
      products[i - whole] += d[i] * x[i];
    }
    const float mean = sum_of(sums) / static_cast<float>(n), along = sum_of(products) / static_cast<float>(n);
    for (std::int64_t i = 0; i < n; ++i) {
      d[i] = inverse_sd[row] * (d[i] - mean - x[i] * along);
      d_bias[i] += d[i];
    }
  }
}

}  // namespace tenfold::cpu
