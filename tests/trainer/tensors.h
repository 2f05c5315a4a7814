#pragma once

#include <ATen/ATen.h>

#include <span>
#include <vector>

#include "datasets/philox.h"

namespace tenfold::testing {

// Standard normal numbers, the same at every call with the same site.
inline at::Tensor normal(const std::vector<std::int64_t>& shape, std::uint64_t site) {
  at::Tensor values = at::empty(shape, at::kFloat);
  fill_normal(RandomStream(3, Purpose::synthetic, 0, 0, site),
              std::span(values.mutable_data_ptr<float>(), static_cast<std::size_t>(values.numel())));
  return values;
}

// Largest difference relative to the largest expected value.
inline double relative_error(const at::Tensor& got, const at::Tensor& expected) {
  const at::Tensor a = got.detach().to(at::kDouble), b = expected.detach().to(at::kDouble);
  if (a.sizes() != b.sizes()) return 1e30;
  return (a - b).abs().max().item<double>() / std::max(1e-12, b.abs().max().item<double>());
}

}  // namespace tenfold::testing
