#include "runner/coordinator_jobs.h"

#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "experiments/random_name.h"

namespace tenfold {
namespace {

constexpr std::size_t kKeptSpecifications = 64;

}  // namespace

JobBuilder::JobBuilder(const Experiment& experiment, const Plan& plan, const CheckpointCheck& checkpoints,
                       std::string cache_folder, bool empty)
    : experiment_(experiment),
      plan_(plan),
      checkpoints_(checkpoints),
      cache_folder_(std::move(cache_folder)),
      run_(random_name().substr(0, 12)),
      empty_(empty) {}

const std::string& JobBuilder::specification(std::int32_t configuration) {
  const auto known = specifications_.find(configuration);
  if (known != specifications_.end()) return known->second;
  if (specifications_.size() >= kKeptSpecifications) specifications_.clear();
  return specifications_[configuration] = to_json(experiment_.resolve(static_cast<std::size_t>(configuration))).dump();
}

ArrayJob JobBuilder::build(const PlannedArray& array, const std::vector<Unit>& units, std::uint64_t dispatch) {
  ArrayJob job;
  job.stage = array.stage;
  job.checkpoint_folder = checkpoints_.folder().string();
  job.cache_folder = cache_folder_;
  job.empty = empty_;
  std::unordered_map<std::int32_t, std::int32_t> configurations;  // of the experiment -> of the job
  for (const std::int32_t number : array.units) {
    const Unit& unit = units[static_cast<std::size_t>(number)];
    JobMember member;
    member.unit = unit.id;
    std::int32_t configuration = 0;
    const SplitSummary* split = nullptr;
    if (array.stage == Stage::fit) {
      const FitUnit& fit = plan_.fits[static_cast<std::size_t>(number)];
      configuration = fit.configuration;
      split = &plan_.split(fit);
    } else {
      const TrialUnit& trial = plan_.trials[static_cast<std::size_t>(number) - plan_.fits.size()];
      configuration = trial.configuration;
      split = &plan_.split(trial);
      const Unit& fit = units[static_cast<std::size_t>(trial.fit)];
      if (!fit.checkpoints.empty())
        member.fit = checkpoints_.reference(fit.checkpoints.front());
      else if (!empty_)
        throw Error(ErrorKind::internal, "the trained parameters of fit " + std::to_string(fit.id) + " are not known");
    }
    member.rate_scale = unit.rate.scale;
    member.repeat = split->repeat;
    member.fold = split->fold;
    if (array.resume_step >= 0 && !unit.checkpoints.empty())
      member.resume = checkpoints_.reference(unit.checkpoints.front());
    const auto [slot, added] =
        configurations.try_emplace(configuration, static_cast<std::int32_t>(job.configurations.size()));
    if (added) job.configurations.push_back(specification(configuration));
    member.configuration = slot->second;
    job.members.push_back(std::move(member));
    if (job.fingerprint.empty())
      job.fingerprint =
          plan_.datasets[static_cast<std::size_t>(plan_.dataset_of[static_cast<std::size_t>(configuration)])]
              .fingerprint.hex();
  }
  job.array = (array.stage == Stage::fit ? "fit" : "trial") + std::to_string(job.members.front().unit) + "x" +
              std::to_string(job.members.size()) + "." + run_ + "." + std::to_string(dispatch);
  return job;
}

}  // namespace tenfold
