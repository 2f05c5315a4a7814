#include "trainer/adapt_checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace tenfold {
namespace {

constexpr std::int64_t kControlDoubles = sizeof(AdaptationControl) / sizeof(double);

// Every tensor of the lanes with its name in the file.
template <class Visit>
void visit_lanes(const AdaptationState& a, Visit visit) {
  const ModelLayout& layout = a.model.layout();
  for (std::size_t i = 0; i < a.adapted.size(); ++i) {
    const std::string& name = layout.parameters[a.adapted[i]].name;
    visit("parameter/" + name, a.state.parameters[a.adapted[i]]);
    visit("moment1/" + name, a.optimizer->moment1()[i]);
    if (!a.optimizer->moment2().empty()) visit("moment2/" + name, a.optimizer->moment2()[i]);
  }
  for (std::size_t i = 0; i < a.state.buffers.size(); ++i)
    visit("buffer/" + layout.buffers[i].name, a.state.buffers[i]);
  if (a.optimizer != nullptr) visit("applied", a.optimizer->applied());
}

// (lanes, ...) as (K, lanes of a member, ...)
at::Tensor by_member(const at::Tensor& lanes, std::int64_t members) {
  std::vector<std::int64_t> shape{members, lanes.size(0) / members};
  shape.insert(shape.end(), lanes.sizes().begin() + 1, lanes.sizes().end());
  return lanes.detach().view(shape);
}

}  // namespace

StackedTensors save_adaptation(const AdaptationState& adaptation) {
  const auto members = static_cast<std::int64_t>(adaptation.members.size());
  StackedTensors tensors;
  visit_lanes(adaptation,
              [&](const std::string& name, const at::Tensor& lanes) { tensors[name] = by_member(lanes, members); });
  at::Tensor control = at::empty({members, kControlDoubles}, at::kDouble);
  for (std::int64_t k = 0; k < members; ++k)
    std::copy_n(reinterpret_cast<const double*>(&adaptation.members[static_cast<std::size_t>(k)].control),
                kControlDoubles, control.mutable_data_ptr<double>() + kControlDoubles * k);
  tensors["control"] = control;
  return tensors;
}

void restore_adaptation(const AdaptationState& adaptation, std::size_t index, CheckpointReader& reader) {
  AdaptMember& member = adaptation.members[index];
  const auto members = static_cast<std::int64_t>(adaptation.members.size()), k = static_cast<std::int64_t>(index);
  const CheckpointRef& ref = member.base.job.resume.value();
  MemberTensors saved = reader.read(ref);
  const auto batch = static_cast<std::int64_t>(member.ttt().batch_size.value());
  const auto queries = static_cast<std::int64_t>(member.query_rows.size());
  visit_lanes(adaptation, [&](const std::string& name, const at::Tensor& lanes) {
    at::Tensor view = by_member(lanes, members);
    const auto found = saved.tensors.find(name);
    if (found != saved.tensors.end() && found->second.dim() == view.dim() && resets_by_batch(adaptation.members)) {
      const std::int64_t common = std::min(found->second.size(1), view.size(1));
      if (common * batch >= queries) {
        found->second = found->second.narrow(1, 0, common);
        view = view.narrow(1, 0, common);
      }
    }
    restore(saved, name, view, k);
  });
  at::Tensor control = at::zeros({members, kControlDoubles}, at::kDouble);
  restore(saved, "control", control, k);
  std::copy_n(control.const_data_ptr<double>() + kControlDoubles * k, kControlDoubles,
              reinterpret_cast<double*>(&member.control));
  const auto finished_at = static_cast<std::int64_t>(member.control.finished_at);
  member.passes_done = (finished_at >= 0 ? finished_at : ref.step) + 1;
}

}  // namespace tenfold
