#pragma once

#include <cstdint>

#include "datasets/philox.h"
#include "trainer/compute.h"

// The inner loops of the CPU, on plain pointers: compiled for AVX-512, AVX2 and the baseline, chosen at start.
// Each works on one member, in an order that depends on the member's own size alone.
namespace tenfold::cpu {

// out[r * units + u] = word >= threshold ? keep : 0, where word r, u is the low 24 bits of Philox at counter
// (position r0 + r, blocks of four units).
void dropout_rows(float* out, std::int64_t rows, std::int64_t units, PhiloxKey key, std::uint32_t epoch,
                  std::uint32_t site, std::int64_t first_position, std::uint32_t threshold, float keep);

double sum_of_squares(const float* values, std::int64_t n);
double sum_of_squared_differences(const float* a, const float* b, std::int64_t n);

// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019); gradients are scaled by `scale` (clipping).
void adam(float* parameter, const float* gradient, float* m, float* v, std::int64_t n, const UpdateRule& rule, float lr,
          float scale, float correction1, float correction2_root);

// SGD with momentum and Nesterov's variant (Sutskever et al. 2013), as torch.optim.SGD with dampening 0.
void sgd(float* parameter, const float* gradient, float* buffer, std::int64_t n, const UpdateRule& rule, float lr,
         float scale);

// The tail of a hidden layer, on the rows of one member: z (rows, n) is x W without its bias.
//   xhat = (z + bias - mean) / sqrt(var + eps), out = relu(xhat * weight + shift) * mask
// z becomes xhat; inverse_sd (rows) is kept for the gradient. mask may be null.
void norm_relu_mask(float* z, float* out, float* inverse_sd, std::int64_t rows, std::int64_t n, const float* bias,
                    const float* weight, const float* shift, const float* mask, float eps);

// Its gradient: dz (rows, n) from dout; d_bias, d_weight, d_shift (n) are set.
void norm_relu_mask_backward(float* dz, const float* dout, const float* xhat, const float* inverse_sd,
                             std::int64_t rows, std::int64_t n, const float* weight, const float* shift,
                             const float* mask, float* d_bias, float* d_weight, float* d_shift);

}  // namespace tenfold::cpu
