#include "ttt/inner_loop_shapes.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "ttt/per_stream.h"

namespace tenfold::inner {

std::vector<Segment> segments(std::int64_t position, std::int64_t tokens, std::int64_t m, bool streaming) {
  std::vector<Segment> list;
  std::int64_t first = 0;
  if (const std::int64_t offset = position % m; offset > 0 && tokens > 0) {
    const std::int64_t length = std::min(m - offset, tokens);
    list.push_back({0, 1, length, offset, offset + length == m || !streaming});
    first = length;
  }
  if (const std::int64_t count = (tokens - first) / m; count > 0) {
    list.push_back({first, count, m, 0, true});
    first += count * m;
  }
  if (first < tokens) list.push_back({first, 1, tokens - first, 0, !streaming});
  return list;
}

FastWeights flattened(const std::vector<at::Tensor>& weights, const std::vector<at::Tensor>& biases) {
  FastWeights flat;
  for (const at::Tensor& weight : weights) flat.weights.push_back(weight.flatten(0, 2));
  for (const at::Tensor& bias : biases) flat.biases.push_back(bias.flatten(0, 2));
  return flat;
}

std::vector<at::Tensor> unflattened(const std::vector<at::Tensor>& flat, const Sizes& sizes) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : flat)
    result.push_back(tensor.detach().view({sizes.members, sizes.streams, sizes.heads, tensor.size(1), tensor.size(2)}));
  return result;
}

FastWeights initial_weights(const InnerModel& model, const Sizes& sizes) {
  FastWeights flat;
  for (const at::Tensor& weight : model.weights)
    flat.weights.push_back(over_streams(weight, sizes.streams).flatten(0, 2));
  for (const at::Tensor& bias : model.biases) flat.biases.push_back(over_streams(bias, sizes.streams).flatten(0, 2));
  return flat;
}

at::Tensor mini_batches(const at::Tensor& x, const Segment& segment) {
  const at::Tensor part = x.narrow(3, segment.first, segment.count * segment.length);
  std::vector<std::int64_t> shape = part.sizes().vec();
  shape[3] = segment.count;
  shape.insert(shape.begin() + 4, segment.length);
  at::Tensor split = part.reshape(shape);
  return split.movedim(3, 0).contiguous().flatten(1, 3);
}

at::Tensor in_order(const at::Tensor& x, const Sizes& sizes) {
  const std::int64_t n = x.size(0), l = x.size(2);
  return x.view({n, sizes.members, sizes.streams, sizes.heads, l, x.size(3)})
      .movedim(0, 3)
      .reshape({sizes.members, sizes.streams, sizes.heads, n * l, x.size(3)});
}

at::Tensor per_model(const at::Tensor& x, const Sizes& sizes) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin() + 1, {sizes.streams, sizes.heads});
  return x.unsqueeze(1).unsqueeze(1).expand(shape).flatten(0, 2);
}

at::Tensor last_coefficient(const at::Tensor& row_coefficient, const at::Tensor& real, std::int64_t last_index,
                            std::int64_t count, const Sizes& sizes) {
  if (!real.defined()) {
    const at::Tensor c = per_model(row_coefficient.select(1, last_index), sizes);
    return c.view({1, -1, 1, 1}).expand({count, -1, 1, 1});
  }
  const at::Tensor index = (real - 1).clamp_min(0).movedim(0, 2).flatten(1);  // (K, B n)
  const at::Tensor c = row_coefficient.gather(1, index).view({sizes.members, sizes.streams, count}).movedim(2, 0);
  return c.unsqueeze(-1).expand({-1, -1, -1, sizes.heads}).reshape({count, sizes.models(), 1, 1});
}

}  // namespace tenfold::inner
