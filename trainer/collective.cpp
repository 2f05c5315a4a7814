#include "trainer/collective.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>

#include "experiments/error.h"

namespace tenfold {
namespace {

class TcpCollective final : public Collective {
 public:
  using Collective::Collective;
  void sum(const at::Tensor& tensor) override {
    check(tensor);
    const auto count = static_cast<std::size_t>(tensor.numel());
    if (tensor.scalar_type() == at::kFloat)
      link().sum(std::span(tensor.mutable_data_ptr<float>(), count));
    else
      link().sum(std::span(tensor.mutable_data_ptr<double>(), count));
  }
  void broadcast(const at::Tensor& tensor) override {
    check(tensor);
    link().broadcast(std::span(static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()));
  }
  void begin_sum(const at::Tensor& tensor) override { sum(tensor); }
  void finish_sums() override {}
  // One message for all gradients: a CPU that sends computes nothing meanwhile.
  std::int64_t bucket_bytes() const override { return std::numeric_limits<std::int64_t>::max(); }
  void watch(bool) override {}
  void progressed() override {}

 private:
  static void check(const at::Tensor& tensor) {
    if (!tensor.is_cpu() || !tensor.is_contiguous() ||
        (tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble))
      throw Error(ErrorKind::internal, "a tensor that cannot be summed over ranks");
  }
};

class SumOverRanks : public torch::autograd::Function<SumOverRanks> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, std::int64_t group) {
    context->saved_data["group"] = group;
    at::Tensor total = x.clone(at::MemoryFormat::Contiguous);
    reinterpret_cast<Collective*>(group)->sum(total);
    return total;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    at::Tensor gradient = outputs[0].clone(at::MemoryFormat::Contiguous);
    reinterpret_cast<Collective*>(context->saved_data["group"].toInt())->sum(gradient);
    return {gradient, at::Tensor()};
  }
};

}  // namespace

std::int64_t Collective::leaders(std::int64_t value) {
  link_->broadcast(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

std::unique_ptr<Collective> make_tcp_collective(std::unique_ptr<GroupLink> link) {
  return std::make_unique<TcpCollective>(std::move(link));
}

at::Tensor summed(Collective& group, const at::Tensor& x) {
  return SumOverRanks::apply(x, static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(&group)));
}

at::Tensor gathered(Collective& group, const at::Tensor& x, std::int64_t dim) {
  at::NoGradGuard no_grad;
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.insert(shape.begin() + dim, group.size());
  const at::ScalarType type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor all = at::zeros(shape, x.options().dtype(type));
  all.select(dim, group.rank()).copy_(x);
  group.sum(all);
  return all.flatten(dim, dim + 1).to(x.scalar_type());
}

}  // namespace tenfold
