#include "runner/group_sizes.h"

#include <algorithm>
#include <set>
#include <string>

#include "experiments/error.h"

namespace tenfold {

void check_group_sizes(const PreparedExperiment& prepared, const RegisteredPlan& registered, int slots, bool gpu,
                       int gpus) {
  const Experiment& experiment = prepared.experiment;
  std::set<std::string> problems;
  for (std::size_t t = 0; t < prepared.plan.trials.size(); ++t) {
    const auto configuration = static_cast<std::size_t>(prepared.plan.trials[t].configuration);
    const std::int32_t ranks = prepared.ranks[configuration];
    if (ranks == 1 || registered.trials[t].status == TrialStatus::done) continue;
    if (ranks > slots)
      problems.insert(experiment.placed(
          configuration, "resources.ranks_per_trial: a trial needs " + std::to_string(ranks) +
                             " slots at once, and this run has " + std::to_string(slots) +
                             (gpu ? ": ask for fewer, or for more GPUs" : ": ask for fewer, or start more (--slots)")));
    else if (gpu && experiment.base().resources.slots_per_gpu > 1)
      problems.insert(
          experiment.placed(configuration,
                            "resources.ranks_per_trial: a trial over several GPUs needs each for itself: leave "
                            "resources.slots_per_gpu at 1"));
    // A group could be given two slots of one, which NCCL refuses at every attempt.
    else if (gpu && gpus > 0 && slots > gpus)
      problems.insert(experiment.placed(
          configuration, "resources.ranks_per_trial: a trial over several GPUs needs each for itself, and here " +
                             std::to_string(slots) + " slots are on " + std::to_string(gpus) +
                             (gpus == 1 ? " GPU" : " GPUs") + ": leave --slots and resources.slots away, or at " +
                             std::to_string(gpus)));
  }
  if (problems.empty()) return;
  std::string message;
  for (const std::string& problem : problems) message += (message.empty() ? "" : "\n") + problem;
  throw Error(ErrorKind::config, message);
}

}  // namespace tenfold
