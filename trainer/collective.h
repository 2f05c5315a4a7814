#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "trainer/group_link.h"

// The trainers of a rank group as one computation: every rank takes its part of each batch, and sums go over all.
namespace tenfold {

// A rank's part of a batch that is padded to `size` equal parts.
struct BatchShare {
  std::int64_t rank = 0, size = 1;
  std::int64_t part(std::int64_t batch) const { return (batch + size - 1) / size; }
};

// All ranks make the same calls in the same order. Whatever a rank gets back has the same bits on all of them.
// Throws Error(communication) where a rank is gone; a rank that waits on its device for another ends its process.
class Collective {
 public:
  explicit Collective(std::unique_ptr<GroupLink> link) : link_(std::move(link)) {}
  virtual ~Collective() = default;
  int rank() const { return link_->rank(); }
  int size() const { return link_->size(); }
  bool leads() const { return link_->leads(); }
  BatchShare share() const { return {rank(), size()}; }

  // Tensors on the array's device, contiguous, float32 or float64, changed in place as part of the current stream's
  // work.
  virtual void sum(const at::Tensor& tensor) = 0;
  virtual void broadcast(const at::Tensor& tensor) = 0;  // the leader's
  // As sum, but perhaps beside the work that follows; the tensor is not to be touched before finish_sums().
  virtual void begin_sum(const at::Tensor& tensor) = 0;
  virtual void finish_sums() = 0;
  virtual std::int64_t bucket_bytes() const = 0;  // of gradients that are worth a sum of their own

  // Around work on a device that waits for other ranks; `progressed` after every step that was enqueued.
  virtual void watch(bool on) = 0;
  virtual void progressed() = 0;

  // On the host.
  std::int64_t leaders(std::int64_t value);  // the leader's value
  void sum(std::span<float> values) { link_->sum(values); }
  void sum(std::span<double> values) { link_->sum(values); }
  std::string broadcast(const std::string& message) { return link_->broadcast(message); }
  // Until all ranks have come here, however long one takes to get ready.
  void await_all() { link_->barrier(); }
  virtual void leave() { await_all(); }  // at the end: nobody closes before all are done

 protected:
  GroupLink& link() { return *link_; }

 private:
  std::unique_ptr<GroupLink> link_;
};

// Over TCP, for arrays on CPUs.
std::unique_ptr<Collective> make_tcp_collective(std::unique_ptr<GroupLink> link);

// x summed over all ranks, as a new tensor; its gradient is the sum of the gradients that the ranks have of it.
at::Tensor summed(Collective& group, const at::Tensor& x);
// The ranks' tensors behind one another along `dim`; the same shape on all. Values up to 2^24 of integers.
at::Tensor gathered(Collective& group, const at::Tensor& x, std::int64_t dim);

}  // namespace tenfold
