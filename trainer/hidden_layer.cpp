#include <ATen/ATen.h>

#include <optional>

#include "trainer/kernels_cpu.h"
#include "trainer/layers.h"

namespace tenfold::layers {
namespace {

constexpr float kNormEps = 1e-5f;  // as layer_norm

class HiddenLayer : public torch::autograd::Function<HiddenLayer> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                            const std::optional<at::Tensor>& dropout_mask) {
    const at::Tensor mask = dropout_mask.value_or(at::Tensor());
    at::Tensor xhat = at::bmm(x, weight);  // (K, B, n); becomes xhat below
    at::Tensor out = at::empty_like(xhat);
    const std::int64_t members = xhat.size(0), rows = xhat.size(1), n = xhat.size(2);
    at::Tensor inverse_sd = at::empty({members, rows}, xhat.options());
    for (std::int64_t k = 0; k < members; ++k)
      cpu::norm_relu_mask(xhat.mutable_data_ptr<float>() + k * rows * n, out.mutable_data_ptr<float>() + k * rows * n,
                          inverse_sd.mutable_data_ptr<float>() + k * rows, rows, n,
                          bias.const_data_ptr<float>() + k * n, norm_weight.const_data_ptr<float>() + k * n,
                          norm_bias.const_data_ptr<float>() + k * n,
                          mask.defined() ? mask.const_data_ptr<float>() + k * rows * n : nullptr, kNormEps);
    context->save_for_backward({x, weight, norm_weight, norm_bias, xhat, inverse_sd, mask});
    context->saved_data["x needs gradient"] = x.requires_grad();
    context->saved_data["weight needs gradient"] = weight.requires_grad();
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& outputs) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &norm_weight = saved[2], &norm_bias = saved[3];
    const at::Tensor &xhat = saved[4], &inverse_sd = saved[5], &mask = saved[6];
    const at::Tensor dout = outputs[0].contiguous();
    const std::int64_t members = xhat.size(0), rows = xhat.size(1), n = xhat.size(2);
    at::Tensor dz = at::empty_like(xhat);
    at::Tensor d_bias = at::empty({members, n}, xhat.options());
    at::Tensor d_weight = at::empty_like(d_bias), d_shift = at::empty_like(d_bias);
    for (std::int64_t k = 0; k < members; ++k)
      cpu::norm_relu_mask_backward(
          dz.mutable_data_ptr<float>() + k * rows * n, dout.const_data_ptr<float>() + k * rows * n,
          xhat.const_data_ptr<float>() + k * rows * n, inverse_sd.const_data_ptr<float>() + k * rows, rows, n,
          norm_weight.const_data_ptr<float>() + k * n, norm_bias.const_data_ptr<float>() + k * n,
          mask.defined() ? mask.const_data_ptr<float>() + k * rows * n : nullptr,
          d_bias.mutable_data_ptr<float>() + k * n, d_weight.mutable_data_ptr<float>() + k * n,
          d_shift.mutable_data_ptr<float>() + k * n);
    at::Tensor dx, d_linear;
    if (context->saved_data["x needs gradient"].toBool()) dx = at::bmm(dz, weight.transpose(1, 2));
    if (context->saved_data["weight needs gradient"].toBool()) d_linear = at::bmm(x.transpose(1, 2), dz);
    return {dx, d_linear, d_bias, d_weight, d_shift, at::Tensor()};
  }
};

}  // namespace

at::Tensor hidden_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const at::Tensor& norm_weight, const at::Tensor& norm_bias, const at::Tensor& mask) {
  const std::optional<at::Tensor> dropout_mask = mask.defined() ? std::optional(mask) : std::nullopt;
  return HiddenLayer::apply(x, weight, bias, norm_weight, norm_bias, dropout_mask);
}

}  // namespace tenfold::layers
