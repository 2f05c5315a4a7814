#include "trainer/engine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <new>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "experiments/experiment.h"
#include "experiments/fault_point.h"
#include "trainer/adapt_array.h"
#include "trainer/fit_array.h"
#include "trainer/group_settings.h"
#include "trainer/muted_reporter.h"

namespace tenfold {
namespace {

std::unique_ptr<Compute> prepare(const std::string& device, int threads) {
  at::set_num_threads(threads);
  return make_compute(device);
}

std::string first_line(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return text.substr(0, text.find('\n'));
}

std::vector<ArrayMember> prepare_members(const ArrayJob& job, FoldStore& folds) {
  std::vector<ExperimentSpec> specs;
  for (const std::string& text : job.configurations) specs.push_back(spec_from_json(nlohmann::json::parse(text)));
  std::vector<ArrayMember> members;
  for (const JobMember& member : job.members) {
    const ExperimentSpec& spec = specs.at(static_cast<std::size_t>(member.configuration));
    members.push_back({spec, folds.fold(spec, member.repeat, member.fold, job.fingerprint, job.cache_folder), member});
  }
  if (members.empty()) throw Error(ErrorKind::internal, "an array without members");
  const auto resumed_at = [](const ArrayMember& m) { return m.job.resume ? m.job.resume->step : -1; };
  for (const ArrayMember& member : members)
    if (resumed_at(member) != resumed_at(members.front()))
      throw Error(ErrorKind::internal, "members of one array resume from different steps");
  return members;
}

// The others of the job's group; null where there are none.
std::unique_ptr<Collective> meet(const ArrayJob& job, const Compute& compute, const GroupTimes& times,
                                 Meeting* meeting) {
  if (job.group.size <= 1) return nullptr;
  if (meeting == nullptr) throw Error(ErrorKind::internal, "a group has nowhere to meet");
  return compute.make_collective(std::make_unique<GroupLink>(job.group, *meeting, times));
}

}  // namespace

struct Engine::Impl {
  Impl(const std::string& device, int threads) : compute(prepare(device, threads)), folds(compute->device()) {}
  std::unique_ptr<Compute> compute;
  FoldStore folds;
};

Engine::Engine(const std::string& device, int threads) : impl_(std::make_unique<Impl>(device, threads)) {}
Engine::~Engine() = default;
std::string Engine::description() const { return impl_->compute->description(); }
std::int64_t Engine::memory_bytes() const { return impl_->compute->memory_bytes(); }

void Engine::run(const ArrayJob& job, Reporter& reporter, Meeting* meeting) {
  try {
    const GroupSettings settings = GroupSettings::from_environment();
    const std::unique_ptr<Collective> group = meet(job, *impl_->compute, settings.times, meeting);
    MutedReporter muted(reporter);
    const bool leads = group == nullptr || group->leads();
    const ArrayContext context{*impl_->compute, leads ? reporter : static_cast<Reporter&>(muted), job, group.get(),
                               settings.bucket_bytes};
    fault_point("load");
    std::vector<ArrayMember> members = prepare_members(job, impl_->folds);
    impl_->compute->set_precision(members.front().spec.precision);
    if (job.stage == Stage::fit)
      run_fit_array(context, std::move(members));
    else
      run_adapt_array(context, std::move(members));
    if (group) group->leave();
  } catch (const c10::OutOfMemoryError& error) {
    throw Error(ErrorKind::device, "out of memory on " + description() + ": " + first_line(error) +
                                       "; make resources.max_array, the batch size or the model smaller");
  } catch (const c10::Error& error) {
    const std::string text = first_line(error);
    if (text.find("not enough memory") != std::string::npos || text.find("can't allocate memory") != std::string::npos)
      throw std::bad_alloc();
    throw Error(ErrorKind::internal, "LibTorch: " + text);
  }
}

}  // namespace tenfold
