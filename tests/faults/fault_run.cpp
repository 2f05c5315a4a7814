#include "tests/faults/fault_run.h"

#include <chrono>
#include <map>
#include <thread>

namespace tenfold {

const char* const kTables = R"(name: tables
dataset: {kind: synthetic, samples: 240, features: 8, classes: 3, separation: 3.0, shift: {kind: gaussian_noise, severity: 2}}
folds: {kind: stratified, k: 2}
model: {kind: mlp, hidden: [16], norm: layer, dropout: 0.1}
train: {epochs: 40, batch_size: 16, optimizer: {kind: adamw, lr: 1e-2}}
ttt: {method: entropy_diversity, steps: 60, batch_size: 32}
metrics: [accuracy, nll]
sweep: {ttt.lr: [1e-4, 1e-3], ttt.parameters: [norm, all]}
resources: {slots: 2, device: cpu}
checkpoint: {every_steps: 20}
)";

const char* const kSequences = R"(name: sequences
dataset: {kind: synthetic_sequences, samples: 60, features: 8, classes: 3, group_count: 3, min_steps: 3, max_steps: 12,
          mean_steps: 7, transform: log1p, separation: 3, length_buckets: 2}
folds: {kind: kfold, k: 2}
model: {kind: ttt_rnn, units: 12, layers: 1}
train: {epochs: 10, batch_size: 8, optimizer: {kind: adamw, lr: 1e-2}, clip_norm: 1.0}
ttt: {steps: 24, batch_size: 8, query_size: 20}
metrics: [accuracy, nll]
diagnostics: {inner_loss: 1}
sweep: {ttt.lr: [1e-4, 3e-4]}
resources: {slots: 2, device: cpu}
checkpoint: {every_steps: 10}
)";

const char* const kFake = R"(name: fake
dataset: {kind: synthetic, samples: 240, features: 8, classes: 3}
folds: {kind: stratified, k: 4}
model: {kind: mlp, hidden: [16]}
train: {epochs: 4, batch_size: 16}
ttt: {method: entropy_diversity, steps: 5, batch_size: 32}
metrics: [accuracy]
sweep: {ttt.lr: [1e-4, 1e-3, 1e-2], ttt.parameters: [norm, all]}
resources: {slots: 2, device: cpu}
)";

void FaultRun::use_fake(const std::string& more) {
  work_.use_fake_trainer();
  use(kFake + more);
  expected();  // before the test makes anything slower
}

std::vector<std::string> FaultRun::run(const std::string& db, std::vector<std::string> more) const {
  std::vector<std::string> words{"run", "x.yaml", "--db", db};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

const FaultRun::Calm& FaultRun::calm() {
  static std::map<std::string, Calm> known;  // by experiment: the cases of one program share what they compare with
  const auto [entry, is_new] = known.try_emplace(experiment_);
  Calm& calm = entry->second;
  if (!is_new) return calm;
  const auto begin = std::chrono::steady_clock::now();
  const Finished finished = complete("calm.db");
  calm.s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  calm.rows = results_of(work_, "calm.db");
  return calm;
}

Finished FaultRun::complete(const std::string& db, std::vector<std::string> more) const {
  return work_.wait(work_.start(run(db, std::move(more))), std::chrono::seconds(200));
}

void FaultRun::finish(const std::string& db, std::vector<std::string> more) {
  const Finished finished = complete(db, std::move(more));
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  expect_as_undisturbed(work_, db, expected());
}

void FaultRun::sleep_s(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

}  // namespace tenfold
