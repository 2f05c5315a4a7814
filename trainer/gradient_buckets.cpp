#include "trainer/gradient_buckets.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>

#include "experiments/error.h"

namespace tenfold {

GradientBuckets::GradientBuckets(Collective& group, std::vector<at::Tensor> parameters, std::int64_t extra,
                                 std::int64_t bucket_bytes)
    : group_(group), parameters_(std::move(parameters)) {
  const auto options = parameters_.front().options().requires_grad(false);
  const auto most = (bucket_bytes > 0 ? bucket_bytes : group.bucket_bytes()) / static_cast<std::int64_t>(sizeof(float));
  bucket_of_.resize(parameters_.size());
  slots_.resize(parameters_.size());
  std::vector<std::int64_t> sizes, starts(parameters_.size());
  // The backward pass meets the last parameters first.
  for (std::size_t i = parameters_.size(); i-- > 0;) {
    const std::int64_t count = parameters_[i].numel();
    if (sizes.empty() || sizes.back() + count > most) {
      sizes.push_back(0);
      buckets_.emplace_back();
    }
    bucket_of_[i] = buckets_.size() - 1;
    starts[i] = sizes.back();
    sizes.back() += count;
    buckets_.back().members += 1;
  }
  sizes.back() += extra;
  for (std::size_t b = 0; b < buckets_.size(); ++b) buckets_[b].flat = at::zeros({sizes[b]}, options);
  extra_ = buckets_.back().flat.narrow(0, sizes.back() - extra, extra);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    slots_[i] = buckets_[bucket_of_[i]].flat.narrow(0, starts[i], parameters_[i].numel()).view(parameters_[i].sizes());
    hooks_.push_back(parameters_[i].register_hook([this, i](const at::Tensor& gradient) { arrived(i, gradient); }));
  }
}

GradientBuckets::~GradientBuckets() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].remove_hook(hooks_[i]);
}

void GradientBuckets::arrived(std::size_t parameter, const at::Tensor& gradient) {
  at::NoGradGuard no_grad;
  slots_[parameter].copy_(gradient);
  Bucket& bucket = buckets_[bucket_of_[parameter]];
  if (--bucket.missing == 0) group_.begin_sum(bucket.flat);
}

std::vector<at::Tensor> GradientBuckets::sum(const at::Tensor& output, const at::Tensor& output_gradient,
                                             const at::Tensor& extra) {
  for (Bucket& bucket : buckets_) bucket.missing = bucket.members;
  if (extra.defined()) {
    at::NoGradGuard no_grad;
    extra_.copy_(extra);
  }
  torch::autograd::grad({output}, parameters_, {output_gradient});
  for (const Bucket& bucket : buckets_)
    if (bucket.missing != 0) throw Error(ErrorKind::internal, "a gradient did not pass its bucket");
  group_.finish_sums();
  return slots_;
}

}  // namespace tenfold
