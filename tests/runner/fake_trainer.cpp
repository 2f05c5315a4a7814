// A trainer that computes nothing real, for tests of everything around it: it speaks the protocol through the real
// session, its numbers are functions of the configuration, split and step carried from step to step through its
// checkpoints (so a wrong resume shows in the rows), and it misbehaves as TENFOLD_FAULT says (trainer/README.md).
//
//   TENFOLD_FAKE_STEPS=40        steps of every fit and trial
//   TENFOLD_FAKE_STEP_MS=1       duration of a step
//   TENFOLD_FAKE_BEFORE_MS=0     pause between the evaluation before an adaptation and its first step
//   TENFOLD_FAKE_EVERY=5         steps between checkpoints
//   TENFOLD_FAKE_FAIL=2          members of this fold fail by themselves, every time
//                                (TENFOLD_FAKE_FAIL_STAGE=fit|adapt, TENFOLD_FAKE_FAIL_IF=file: once there is one)
//   TENFOLD_FAKE_NO_RETRY=1      ... and say that another attempt would end the same
//   TENFOLD_FAKE_NONFINITE=1     ... and say that numbers were not finite
//   TENFOLD_FAKE_ROWS=1000000    a flood: rows per member in blocks, without pauses
//   TENFOLD_FAKE_NO_MEETING=1    a group's leader never says where it waits
//
// Trainers of a group stir the state together over fake_group.h, so that a member that is missing or behind shows; each
// passes a fault point of its own at every step: kill@group2:12 kills the third of a group at step 12.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>
#include <vector>

#include "datasets/safetensors.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/hash.h"
#include "experiments/metric.h"
#include "tests/runner/fake_group.h"
#include "trainer/protocol_checkpoint.h"
#include "trainer/session.h"
#include "trainer/trainer_arguments.h"

namespace tenfold {
namespace {

std::int64_t setting(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoll(text) : otherwise;
}

// The state that training carries: a number stirred at every step.
std::uint64_t stir(std::uint64_t state, std::uint64_t step) {
  state ^= step * 0x9e3779b97f4a7c15ull;
  state ^= state >> 29;
  state *= 0xbf58476d1ce4e5b9ull;
  return state ^ (state >> 32);
}

double as_loss(std::uint64_t state) { return static_cast<double>(state >> 11) * 0x1p-53; }

std::uint64_t first_bytes(const Digest& digest) {
  std::uint64_t value = 0;
  std::memcpy(&value, digest.bytes.data(), sizeof value);
  return value;
}

std::uint64_t read_state(const CheckpointRef& ref) {
  if (sha256_file(ref.path).hex() != ref.sha256) throw Error(ErrorKind::data, ref.path + " is damaged");
  const SafetensorsFile file = SafetensorsFile::open(ref.path);
  const auto states = file.integers("state");
  if (file.metadata().at("format") != kCheckpointFormat || file.metadata().at("step") != std::to_string(ref.step) ||
      static_cast<std::size_t>(ref.array_index) >= states.size())
    throw Error(ErrorKind::data, ref.path + " is not the checkpoint that was asked for");
  return static_cast<std::uint64_t>(states[static_cast<std::size_t>(ref.array_index)]);
}

class FakeArray {
 public:
  FakeArray(const ArrayJob& job, Session& session) : job_(job), reporter_(session) {
    if (job.group.size > 1) group_.emplace(job.group, session);
    for (std::size_t i = 0; i < job.members.size(); ++i) {
      const JobMember& member = job.members[i];
      std::uint64_t state =
          first_bytes(sha256(job.configurations[static_cast<std::size_t>(member.configuration)] + "/" +
                             std::to_string(member.repeat) + "/" + std::to_string(member.fold)));
      // As with real fits, what is shared must not depend on which configuration asked for it.
      if (job.stage == Stage::fit)
        state = stir(static_cast<std::uint64_t>(member.repeat), static_cast<std::uint64_t>(member.fold) + 1);
      if (member.fit) state ^= read_state(*member.fit);
      if (member.resume) {
        state = read_state(*member.resume);
        step_ = member.resume->step;
      }
      states_.push_back(state);
      over_.push_back(false);
    }
  }

  void run() {
    const auto begin = std::chrono::steady_clock::now();
    if (const std::int64_t rows = setting("TENFOLD_FAKE_ROWS", 0); rows > 0) return flood(rows);
    const std::int64_t steps = setting("TENFOLD_FAKE_STEPS", 40), every = setting("TENFOLD_FAKE_EVERY", 5);
    const auto pause = std::chrono::milliseconds(setting("TENFOLD_FAKE_STEP_MS", 1));
    if (step_ == 0 && job_.stage == Stage::adapt) {
      evaluate(Phase::before, 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(setting("TENFOLD_FAKE_BEFORE_MS", 0)));
    }
    while (step_ < steps) {
      if (drained()) {
        if (step_ > 0) save(false);  // who has made no step begins anew, with what comes before it
        return end(TrialStatus::stopped, begin);
      }
      ++step_;
      std::this_thread::sleep_for(pause);
      for (std::size_t i = 0; i < states_.size(); ++i) step(i);
      if (group_) fault_point(("group" + std::to_string(job_.group.rank)).c_str(), step_);
      reporter_.progress({step_, steps, 1000.0 * static_cast<double>(states_.size()), 0.5, 0.4, 0.7});
      if (step_ % every == 0 && step_ < steps) save(false);
      if (step_ >= steps / 2) fail_some();
    }
    if (job_.stage == Stage::adapt) evaluate(Phase::after, steps);
    if (job_.stage == Stage::fit) save(true);
    end(TrialStatus::done, begin);
  }

 private:
  bool leads() const { return job_.group.rank == 0; }

  bool drained() {
    const bool here = reporter_.drain_requested();
    return group_ ? group_->combine(here ? 1 : 0) != 0 : here;
  }

  void step(std::size_t i) {
    if (over_[i]) return;
    states_[i] = stir(states_[i], static_cast<std::uint64_t>(step_));
    if (group_) states_[i] = group_->combine(stir(states_[i], static_cast<std::uint64_t>(job_.group.rank) + 1));
    if (!leads()) return;
    const double loss = as_loss(states_[i]);
    if (job_.stage == Stage::fit) {
      const TrainStepRow row{step_, step_ / 10, loss, 1e-3, 2 * loss, 1e-3};
      reporter_.rows(static_cast<std::uint32_t>(i), std::span(&row, 1));
      const GroupStepRow group{step_, loss, loss / 10, static_cast<std::int32_t>(ParameterGroup::ttt), 0};
      reporter_.rows(static_cast<std::uint32_t>(i), std::span(&group, 1));
      const GateRow gate{step_, loss, loss / 2, 2 * loss, 1, 0};
      reporter_.rows(static_cast<std::uint32_t>(i), std::span(&gate, 1));
    } else {
      const TttStepRow row{step_, loss, loss / 2, loss / 3, 0.15, 0.9, 10, 0.2, loss, 1e-4, 1e-3};
      reporter_.rows(static_cast<std::uint32_t>(i), std::span(&row, 1));
      const InnerLossRow inner[] = {{step_, 0, loss, loss / 2, loss / 3, 1, Phase::after, {}},
                                    {step_, 1, loss, loss / 2, loss / 4, 1, Phase::after, {}}};
      reporter_.rows(static_cast<std::uint32_t>(i), std::span<const InnerLossRow>(inner));
      const PositionLossRow position{step_, 1, loss, 8, 0, Phase::after, {}};
      reporter_.rows(static_cast<std::uint32_t>(i), std::span(&position, 1));
    }
  }

  void evaluate(Phase phase, std::int64_t at) {
    if (!leads()) return;
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (over_[i]) continue;
      EvaluationRow row{};
      row.step = at;
      row.value = as_loss(states_[i]);
      row.hits = -1;
      row.total = 100;
      row.metric = metric_index("accuracy");
      row.phase = phase;
      reporter_.rows(static_cast<std::uint32_t>(i), std::span<const EvaluationRow>(&row, 1));
    }
  }

  void save(bool last) {
    if (!leads()) return;
    CheckpointNotice notice;
    std::vector<std::uint64_t> kept;
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (over_[i]) continue;
      notice.members.push_back(static_cast<std::int32_t>(i));
      kept.push_back(states_[i]);
    }
    if (notice.members.empty()) return;
    notice.path = job_.checkpoint_folder + "/" + job_.array + "-" + std::to_string(step_) + ".safetensors";
    notice.step = step_;
    const TensorView states{"I64", {static_cast<std::int64_t>(kept.size())}, std::as_bytes(std::span(kept))};
    try {
      std::filesystem::create_directories(job_.checkpoint_folder);
      notice.sha256 = write_safetensors(notice.path, {{"state", states}},
                                        {{"format", std::string(kCheckpointFormat)}, {"step", std::to_string(step_)}})
                          .hex();
      notice.bytes = static_cast<std::int64_t>(std::filesystem::file_size(notice.path));
    } catch (const Error& error) {
      // As the real one: trained parameters are needed, anything else only helps.
      if (last) throw;
      notice = checkpoint_left_out(step_, error.what());
    }
    notice.last = last;
    reporter_.checkpoint(notice);
  }

  void fail_some() {
    const char* stage = std::getenv("TENFOLD_FAKE_FAIL_STAGE");
    if (stage && (std::string(stage) == "fit") != (job_.stage == Stage::fit)) return;
    const char* file = std::getenv("TENFOLD_FAKE_FAIL_IF");
    if (file && !std::filesystem::exists(file)) return;
    const std::int64_t fold = setting("TENFOLD_FAKE_FAIL", -1);
    for (std::size_t i = 0; i < states_.size(); ++i) {
      if (over_[i] || job_.members[i].fold != fold) continue;
      over_[i] = true;
      MemberOutcome outcome;
      outcome.member = static_cast<std::int32_t>(i);
      outcome.status = TrialStatus::failed;
      outcome.reason = "fails on purpose";
      outcome.retry = setting("TENFOLD_FAKE_NO_RETRY", 0) == 0;
      outcome.nonfinite = setting("TENFOLD_FAKE_NONFINITE", 0) != 0;
      outcome.steps = step_;
      if (leads()) reporter_.outcome(outcome);
    }
  }

  void flood(std::int64_t rows) {
    std::vector<TrainStepRow> train(500);
    std::vector<TttStepRow> ttt(500);
    for (std::int64_t done = 0; done < rows;) {
      const auto count = static_cast<std::size_t>(std::min<std::int64_t>(500, rows - done));
      for (std::size_t r = 0; r < count; ++r)
        if (job_.stage == Stage::fit)
          train[r] = {done + static_cast<std::int64_t>(r) + 1, 0, 0.5, 1e-3, 1.0, 1e-3};
        else
          ttt[r] = {done + static_cast<std::int64_t>(r) + 1, 0.5, 0.4, 0.7, 0.15, 0.9, 10, 0.2, 1.0, 1e-4, 1e-3};
      for (std::size_t i = 0; i < states_.size(); ++i)
        if (job_.stage == Stage::fit)
          reporter_.rows(static_cast<std::uint32_t>(i), std::span<const TrainStepRow>(train.data(), count));
        else
          reporter_.rows(static_cast<std::uint32_t>(i), std::span<const TttStepRow>(ttt.data(), count));
      done += static_cast<std::int64_t>(count);
    }
    step_ = rows;
    if (job_.stage == Stage::fit) save(true);
    end(TrialStatus::done, std::chrono::steady_clock::now());
  }

  void end(TrialStatus status, std::chrono::steady_clock::time_point begin) {
    const double wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (group_) group_->combine(0);  // nobody parts while another still needs him
    for (std::size_t i = 0; leads() && i < states_.size(); ++i) {
      if (over_[i]) continue;
      MemberOutcome outcome;
      outcome.member = static_cast<std::int32_t>(i);
      outcome.status = status;
      outcome.steps = step_;
      outcome.wall_s = wall_s / static_cast<double>(states_.size());
      reporter_.outcome(outcome);
    }
  }

  const ArrayJob& job_;
  Reporter& reporter_;
  std::optional<FakeGroup> group_;
  std::int64_t step_ = 0;
  std::vector<std::uint64_t> states_;
  std::vector<bool> over_;
};

int run(int argc, char** argv) {
  const auto arguments = parse_trainer_arguments(argc, argv);
  if (!arguments) return kExitDone;
  die_with_parent(arguments->parent);
  std::signal(SIGPIPE, SIG_IGN);
  leave_signals_to_worker();
  if (std::getenv("TENFOLD_FAKE_CANNOT_START")) {
    std::fprintf(stderr, "libtorch_cpu.so: cannot open shared object file\n");
    return 127;
  }
  arm_faults_from_environment();
  SessionOptions options = SessionOptions::from_environment();
  options.parent = arguments->parent;
  Session session(arguments->socket, options);
  session.run(ReadyNotice{getpid(), arguments->device, "none", std::int64_t{1} << 30},
              [&](const ArrayJob& job, Reporter&) { FakeArray(job, session).run(); });
  return kExitDone;
}

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  try {
    return tenfold::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fake-trainer: %s\n", error.what());
    return 70;
  }
}
