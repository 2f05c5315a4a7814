#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace tenfold::inner {

// What all streams of a member share, for each: (K, ...) -> (K, B, ...), a copy. Its gradient is the sum over the
// streams, as a matrix product on a CPU: a sum over the middle dimension would be in an order that depends on K.
at::Tensor over_streams(const at::Tensor& x, std::int64_t streams);

}  // namespace tenfold::inner
