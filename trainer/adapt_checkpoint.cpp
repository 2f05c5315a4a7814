#include "trainer/adapt_checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "experiments/error.h"

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

// Every tensor of what members may be put back to, with its name in the file: of the beginning of the pass, which the
// next one may need, and of the one before.
template <class Visit>
void visit_kept(const AdaptationState& a, Visit visit) {
  for (const bool before : {false, true})
    a.kept->visit(a.model.layout(), before, [&](const std::string& name, const at::Tensor& lanes) {
      visit((before ? "kept_before/" : "kept/") + name, lanes, before);
    });
}

// Member `index`'s lanes of a tensor, as far as they hold samples.
void restore_lanes(const AdaptationState& a, std::size_t index, MemberTensors& saved, const std::string& name,
                   const at::Tensor& lanes) {
  const AdaptMember& member = a.members[index];
  at::Tensor view = by_member(lanes, static_cast<std::int64_t>(a.members.size()));
  const auto found = saved.tensors.find(name);
  if (found != saved.tensors.end() && found->second.dim() == view.dim() && resets_by_batch(a.members)) {
    const std::int64_t common = std::min(found->second.size(1), view.size(1));
    if (common * member.ttt().batch_size.value() >= static_cast<std::int64_t>(member.query_rows.size())) {
      found->second = found->second.narrow(1, 0, common);
      view = view.narrow(1, 0, common);
    }
  }
  restore(saved, name, view, static_cast<std::int64_t>(index));
}

void restore_member(const AdaptationState& a, std::size_t index, MemberTensors& saved) {
  AdaptMember& member = a.members[index];
  visit_lanes(a,
              [&](const std::string& name, const at::Tensor& lanes) { restore_lanes(a, index, saved, name, lanes); });
  at::Tensor control = at::zeros({1, kControlDoubles}, at::kDouble);
  restore(saved, "control", control, 0);
  std::copy_n(control.const_data_ptr<double>(), kControlDoubles, reinterpret_cast<double*>(&member.control));
  const auto finished_at = static_cast<std::int64_t>(member.control.finished_at);
  member.passes_done = (finished_at >= 0 ? finished_at : member.base.job.resume->step) + 1;
  const nlohmann::json end = restore_end(saved, member);
  if (member.put_back == 0) return;
  const auto done = end.find("passes_done");
  if (done == end.end() || !done->is_number_integer())
    throw Error(ErrorKind::data, saved.path + ": the checkpoint does not say which pass a trial was put back to");
  member.passes = member.passes_done = done->get<std::int64_t>();
}

}  // namespace

StackedTensors save_adaptation(const AdaptationState& a, std::int64_t pass) {
  const auto members = static_cast<std::int64_t>(a.members.size());
  StackedTensors tensors;
  visit_lanes(a, [&](const std::string& name, const at::Tensor& lanes) { tensors[name] = by_member(lanes, members); });
  at::Tensor control = at::empty({members, kControlDoubles}, at::kDouble);
  for (std::int64_t k = 0; k < members; ++k)
    std::copy_n(reinterpret_cast<const double*>(&a.members[static_cast<std::size_t>(k)].control), kControlDoubles,
                control.mutable_data_ptr<double>() + kControlDoubles * k);
  tensors["control"] = control;
  const bool any_at_rest = std::any_of(a.members.begin(), a.members.end(), [&](const AdaptMember& member) {
    return !member.over && member.at_rest(pass + 1);
  });
  if (a.kept != nullptr)
    visit_kept(a, [&](const std::string& name, const at::Tensor& lanes, bool before) {
      if (!before || any_at_rest) tensors[name] = by_member(lanes, members);
    });
  if (!any_at_rest) return tensors;
  std::vector<nlohmann::json> ends;
  for (const AdaptMember& member : a.members) {
    ends.push_back(describe_end(member));
    ends.back()["passes_done"] = member.passes_done;
  }
  save_ends(ends, tensors);
  return tensors;
}

void restore_adaptation(const AdaptationState& a) {
  CheckpointReader reader;
  const auto every_resumed = [&](const std::function<void(std::size_t, MemberTensors&)>& visit) {
    for (std::size_t k = 0; k < a.members.size(); ++k) {
      if (!a.members[k].base.job.resume) continue;
      MemberTensors saved = reader.read(*a.members[k].base.job.resume);
      visit(k, saved);
    }
  };
  every_resumed([&](std::size_t k, MemberTensors& saved) { restore_member(a, k, saved); });
  if (a.kept == nullptr) return;
  for (int pass = 0; pass < 2; ++pass) a.kept->keep(a.state);  // of members whose checkpoint holds nothing else
  every_resumed([&](std::size_t k, MemberTensors& saved) {
    visit_kept(a, [&](const std::string& name, const at::Tensor& lanes, bool) {
      if (saved.has(name)) restore_lanes(a, k, saved, name, lanes);
    });
  });
}

}  // namespace tenfold
