#include "trainer/inner_losses.h"

#include <algorithm>

#include "trainer/language_layout.h"

namespace tenfold {

std::vector<int> ttt_layers(const ModelLayout& layout) {
  std::vector<int> layers;
  for (const ParameterInfo& parameter : layout.parameters)
    if (parameter.group == ParameterGroup::ttt && (layers.empty() || layers.back() != parameter.layer))
      layers.push_back(parameter.layer);
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

InnerLosses::InnerLosses(std::span<const AdaptMember> members, bool by_batch, std::int64_t pass, const Model& model,
                         const at::Device& device) {
  const ExperimentSpec& spec = members.front().base.spec;
  const InnerLossSpec& wanted = spec.diagnostics.inner_loss;
  if (wanted.every == 0 || by_batch) return;
  const std::int64_t eval_every = spec.ttt.eval_every_steps.value_or(0);
  const bool regular = eval_every > 0 && (pass + 1) % eval_every == 0;
  if (regular && (pass + 1) / eval_every % wanted.every != 0) return;
  std::vector<int> layers = ttt_layers(model.layout());
  const std::vector<int> chosen = placed_layers(wanted.layers, model.layout().layers, "diagnostics.inner_loss.layers");
  std::erase_if(layers, [&](int layer) { return std::find(chosen.begin(), chosen.end(), layer) == chosen.end(); });
  if (layers.empty()) return;
  recorder_ = std::make_unique<InnerLossRecorder>(layers, static_cast<std::int64_t>(members.size()),
                                                  wanted.max_positions, device);
}

void InnerLosses::report(Reporter& reporter, std::size_t member, Phase phase, std::int64_t step) const {
  if (!recorder_) return;
  for (const InnerLossRecorder::Curves& curves : recorder_->curves(static_cast<std::int64_t>(member))) {
    std::vector<InnerLossRow> rows;
    for (std::size_t t = 0; t < curves.l0.size(); ++t)
      if (curves.weight[t] > 0)
        rows.push_back({step,
                        static_cast<std::int64_t>(t),
                        curves.l0[t],
                        curves.lprev[t],
                        curves.lafter[t],
                        curves.layer,
                        phase,
                        {}});
    reporter.rows(static_cast<std::uint32_t>(member), std::span<const InnerLossRow>(rows));
  }
}

}  // namespace tenfold
