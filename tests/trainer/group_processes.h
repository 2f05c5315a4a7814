#pragma once

#include <string>
#include <vector>

#include "experiments/records.h"
#include "trainer/protocol.h"

namespace tenfold::testing {

// What the leader of a group reported of the job's first member.
struct GroupResult {
  std::vector<std::string> errors;  // by rank, "" where there was none
  std::vector<TrainStepRow> train_steps;
  std::vector<TttStepRow> ttt_steps;
  std::vector<EvaluationRow> evaluations;
  std::vector<CheckpointNotice> checkpoints;
};

// Computes a job as a group with one process per device ("cpu", "cuda:1"), as trainers do. The calling process must not
// have used CUDA. `kill_at_step`: the last rank then dies of SIGKILL; 0: none does.
GroupResult run_group_processes(const ArrayJob& job, const std::vector<std::string>& devices,
                                std::int64_t kill_at_step = 0);

}  // namespace tenfold::testing
