#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "trainer/collective.h"

namespace tenfold {

// Gradients of an array, summed over the ranks of its group. They are collected in flat buckets as the backward pass
// comes by them, last layers first, and a full bucket's sum starts while the pass goes on. Buffers are allocated once:
// what a CUDA graph captures stays where it is.
class GradientBuckets {
 public:
  // `extra` more numbers are summed with the gradients. A bucket has at most `bucket_bytes`, or one parameter that is
  // larger, beside the extra numbers; 0: as many as the collective finds worth a sum of their own.
  GradientBuckets(Collective& group, std::vector<at::Tensor> parameters, std::int64_t extra,
                  std::int64_t bucket_bytes = 0);
  ~GradientBuckets();
  GradientBuckets(const GradientBuckets&) = delete;
  GradientBuckets& operator=(const GradientBuckets&) = delete;

  // Of the parameters, in their order, from the gradient at `output`. Valid until the next call. `extra` is summed in
  // place of summed_extra().
  std::vector<at::Tensor> sum(const at::Tensor& output, const at::Tensor& output_gradient,
                              const at::Tensor& extra = {});
  const at::Tensor& summed_extra() const { return extra_; }
  std::size_t count() const { return buckets_.size(); }

 private:
  struct Bucket {
    at::Tensor flat;
    std::int64_t members = 0, missing = 0;
  };
  void arrived(std::size_t parameter, const at::Tensor& gradient);

  Collective& group_;
  std::vector<at::Tensor> parameters_;
  std::vector<unsigned> hooks_;
  std::vector<Bucket> buckets_;
  std::vector<std::size_t> bucket_of_;  // by parameter
  std::vector<at::Tensor> slots_;       // by parameter: its place in a bucket, in its shape
  at::Tensor extra_;
};

}  // namespace tenfold
