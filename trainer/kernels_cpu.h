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

// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019); gradients are scaled by `scale` (clipping).
void adam(float* parameter, const float* gradient, float* m, float* v, std::int64_t n, const UpdateRule& rule,
          float lr, float scale, float correction1, float correction2_root);

// SGD with momentum and Nesterov's variant (Sutskever et al. 2013), as torch.optim.SGD with dampening 0.
void sgd(float* parameter, const float* gradient, float* buffer, std::int64_t n, const UpdateRule& rule, float lr,
         float scale);

}  // namespace tenfold::cpu
