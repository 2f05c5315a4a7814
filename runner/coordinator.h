#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "db/store.h"
#include "db/writer.h"
#include "experiments/frozen_time.h"
#include "runner/coordinator_front.h"
#include "runner/coordinator_jobs.h"
#include "runner/coordinator_resume.h"
#include "runner/messages_port.h"
#include "runner/planning.h"
#include "runner/rank_pacer.h"
#include "runner/schedule_cost.h"
#include "runner/scheduler.h"
#include "runner/stuck_watch.h"

namespace tenfold {

struct CoordinatorSettings {
  std::filesystem::path checkpoint_folder;  // absolute
  bool gpu = false;
  // cuda:1 is the same GPU for all workers of a host: we started them, no cluster's binding.
  bool one_numbering = false;
  bool empty_trials = false;
  double peer_silence_s = 20;
  double drain_limit_s = 10;
  double meeting_limit_s = 60;  // until the members of a group have begun and its leader has said where to meet
  std::optional<std::chrono::steady_clock::time_point> ends_at;  // of the job that we are in
};

// Rank 0: hands arrays to workers, writes what comes back, retries what fails, and tells the front. Everything it
// knows beyond the store is lost with it, and may be.
class Coordinator {
 public:
  Coordinator(const PreparedExperiment& prepared, RegisteredPlan registered, StoreWriter& writer, MessagePort& port,
              FrontLink& front, CoordinatorSettings settings);

  // Until every trial is done or failed, or a drain is complete; everything is committed when it returns. Throws
  // Error: storage when the store cannot be written, communication when no worker or no front is left.
  RunOutcome run();

  // MPI_Finalize would wait for the dead.
  bool lost_any_worker() const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Member {
    std::int32_t unit = 0;
    std::uint64_t attempt = 0;  // StoreWriter's key; 0 before it started
    std::int64_t resumed_from_step = -1;
    bool over = false;
  };
  struct RunningArray {
    PlannedArray plan;
    std::vector<int> workers;  // several: a group, its leader first
    bool started = false;
    std::vector<Member> members;
    Progress progress;
    double expected_s = -1;
    std::size_t begun = 0;                             // of `workers`
    bool met = false;                                  // a group: its leader has said where
    bool leader_done = false;                          // ... and has nothing more to tell
    std::string failing;                               // what a member heard of another's end, until that one is heard
    Clock::time_point due = Clock::time_point::max();  // of the group's meeting, its failing, its parting
    int leader() const { return workers.front(); }
    Clock::time_point started_at{};
  };
  struct Peer {
    WorkerIntroduction introduction;
    bool introduced = false, ready = false, lost = false;
    std::int64_t trainer_pid = 0;
    std::deque<std::uint64_t> queue;  // dispatches; the first one is computed
    Clock::time_point last_heard{};
  };

  // coordinator.cpp: the loop, the workers, the end
  bool finished() const;
  void handle(const Received& received);
  void tick(Clock::time_point now);
  void watch_peers(Clock::time_point now);
  void forgive(Clock::duration silence);  // of everybody: it was our doing, or all of us were stopped
  void lose_worker(int rank, const std::string& reason);
  void drain_when_asked();
  void begin_drain(const std::string& why);
  void end_drain();
  void report_progress(Clock::time_point now);
  void dismiss_workers();
  RunOutcome outcome() const;
  Clock::duration drain_limit() const;

  // coordinator_beating.cpp: what takes long
  void give_signs_of_life(Clock::time_point now);
  void beat();
  std::string hash_of(const std::string& file);
  void commit_everything();

  // coordinator_start.cpp: what is to be done, from what the store has
  void load_units(RegisteredPlan registered);
  void make_unit_ready(std::int32_t unit);
  std::int64_t usable_resume_step(std::int32_t unit);

  // coordinator_arrays.cpp: arrays on their way
  void feed();
  bool feed_ahead(int rank);
  Scheduler::Progressed progressed() const;
  double progress_of(const RunningArray& array) const;  // 0 to 1
  void dispatch(std::vector<int> workers, PlannedArray planned);
  void started(int rank, std::uint64_t dispatch, const std::string& payload);
  void dropped(int rank, std::uint64_t dispatch);
  void trainer_ready(int rank, const std::string& payload);
  void frame(int rank, const Message& message);
  void rows(RunningArray& array, const std::string& payload);
  void checkpoint(RunningArray& array, const std::string& payload);
  void member_outcome(RunningArray& array, const MemberOutcome& outcome);
  bool lower_rate(Member& member, const MemberOutcome& outcome);
  void array_crashed(std::uint64_t dispatch, const std::string& reason);
  void remove_array(std::uint64_t dispatch);

  // coordinator_groups.cpp: arrays of several workers
  std::vector<int> idle_workers() const;
  Room room(const std::vector<int>& idle) const;
  JobGroup group_of(const std::vector<int>& workers) const;
  std::string device_of(const RunningArray& array) const;
  void met(const Message& message, RunningArray& array);
  void worker_done(int rank, std::uint64_t dispatch);
  bool anyone_computes(std::uint64_t dispatch, const RunningArray& array) const;
  void failure(int rank, const Message& message);
  void trainer_lost(int rank, std::uint64_t dispatch, const std::string& reason);
  // Whatever a worker reports of its trainer's end while it computes an array.
  void worker_crashed(int rank, std::uint64_t dispatch, const std::string& reason, bool hearsay = false);
  void meeting_may_be_over(RunningArray& array);
  void abandon(int rank, std::uint64_t dispatch);
  void watch_groups(Clock::time_point now);
  void give_up_too_large();
  void refuse_shared_gpu(const WorkerIntroduction& worker) const;

  // coordinator_storage.cpp: files that cannot be written, and fits whose files are lost
  void checkpoint_failed(const RunningArray& array, std::int64_t step, const std::string& reason);
  void stop_for_storage(const std::string& reason);
  void storage_trouble(const std::string& text);  // the run goes on
  void note_storage(const std::string& text);
  void look_again_at_files_of(const RunningArray& array);
  bool has_lost_its_fit(std::int32_t trial);
  void begin_at_full_rate(std::int32_t fit);
  void reopen_fit(std::int32_t fit);
  void withhold_orphans(PlannedArray& planned);

  // coordinator_deadline.cpp: what the time left allows
  double first_checkpoint_s(const PlannedArray& planned) const;  // expected
  void note_pace(const RunningArray& array);
  bool reaches_a_checkpoint(const PlannedArray& planned);  // or else it is held back
  void drain_when_all_is_held_back();

  // coordinator_units.cpp: what becomes of fits and trials
  void unit_done(std::int32_t unit);
  void unit_failed(std::int32_t unit, const std::string& reason);
  void fail_trials_of(std::int32_t fit, const std::string& reason);
  void fail_trial_of(std::int32_t fit, std::int32_t trial);
  void begin_attempt(Member& member, AttemptStart start);
  void fail_unstarted(std::int32_t unit, const std::string& reason);
  void trial_over(std::int32_t trial);
  void end_attempt(Member& member, TrialStatus outcome, TrialStatus unit_status, const std::string& reason,
                   const MemberOutcome& measured = {}, std::optional<LoweredRate> rate = {});
  void note_retry(std::int32_t unit, const std::string& reason);
  void note_lowering(std::int32_t unit, const std::string& reason);
  void note_kept(std::int32_t unit, const std::string& reason);
  static std::string lowered_in_vain(const LoweredRate& rate);
  void note_halving(const std::vector<std::int32_t>& members, const std::string& reason);
  void event(std::int32_t unit, const std::string& kind, const std::string& detail);
  bool is_fit(std::int32_t unit) const { return unit < fits_; }
  UnitKind kind(std::int32_t unit) const { return is_fit(unit) ? UnitKind::fit : UnitKind::trial; }
  std::string name(std::int32_t unit) const;
  Unit& unit(std::int32_t number) { return units_[static_cast<std::size_t>(number)]; }
  std::span<const std::int32_t> trials_of(std::int32_t fit) const;

  const PreparedExperiment& prepared_;
  StoreWriter& writer_;
  MessagePort& port_;
  FrontLink& front_;
  CoordinatorSettings settings_;

  std::int32_t fits_ = 0, trials_ = 0;
  std::vector<Unit> units_;                              // fits, then trials
  std::vector<std::int32_t> trial_index_, trial_units_;  // trials of fit f: trial_units_[trial_index_[f] ..)
  std::vector<std::int32_t> open_trials_;                // by fit
  CheckpointCheck checkpoints_;
  JobBuilder jobs_;
  std::unique_ptr<Scheduler> scheduler_;
  bool groups_ = false;                              // some array takes several slots
  std::set<std::int32_t> reopened_, withheld_;       // fits computed again; trials that wait for one of them
  std::map<std::int32_t, std::string> failed_fits_;  // for good, and why
  CostModel costs_;

  std::map<std::uint64_t, RunningArray> running_;
  std::vector<Peer> peers_;  // by rank; 0 is unused
  std::uint64_t next_dispatch_ = 1, next_attempt_ = 1;

  std::int64_t fits_done_ = 0, trials_done_ = 0, trials_failed_ = 0, fits_total_ = 0;
  double smallest_memory_ = 0;         // that an array may take, over all devices
  double remaining_cost_[2] = {0, 0};  // fits, trials
  Progress latest_;                    // of an adaptation
  bool draining_ = false, drained_ = false, holding_ = false, dismissed_ = false;
  std::size_t held_back_ = 0;          // units
  std::string held_back_reason_;       // of the first
  double slowest_step_s_[2] = {0, 0};  // of an array: fits, trials
  std::string last_loss_;              // why the last worker was written off
  std::string storage_problem_;        // why the run stops
  std::optional<Clock::time_point> last_storage_note_;
  Clock::time_point begun_, first_dispatch_{}, last_commit_{}, drain_began_{}, drain_until_{}, last_tick_{},
      last_problems_{}, last_heartbeat_{}, last_report_{};
  FrozenTime frozen_;
  Pacer pacer_;
  std::optional<StuckWatch> watch_;  // of the loop and what follows it
};

}  // namespace tenfold
