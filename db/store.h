#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "db/cluster_jobs.h"
#include "experiments/experiment.h"
#include "experiments/pair_score.h"
#include "experiments/plan.h"
#include "experiments/records.h"

// The writable side of the store: one connection, owned by the coordinator's writer thread (db/writer.h).
namespace tenfold {

class StoreHome;

using RowId = std::int64_t;
struct MergeSummary;
class MergeSource;
enum class UnitKind { fit, trial };

struct StoredCheckpoint {
  std::string path;  // relative to checkpoint_folder(db)
  std::int64_t array_index = 0;
  std::int64_t step = 0;
  std::string sha256;
  std::int64_t bytes = 0;
};

// How far a unit's learning rate was lowered after values that were not finite (on_nonfinite.policy: lower_rate).
struct LoweredRate {
  double scale = 1;
  std::int32_t times = 0;
  std::int64_t from_step = -1;  // of the checkpoint that it went back to the last time; -1: the start
  bool operator==(const LoweredRate&) const = default;
};

// What the store has of a fit or trial.
struct UnitState {
  RowId id = 0;
  TrialStatus status = TrialStatus::pending;
  std::int32_t attempts = 0;                  // so far, of any outcome
  std::vector<StoredCheckpoint> checkpoints;  // newest first
  double expected_wall_s = 0;                 // from earlier attempts of the same array key; 0: unknown
  LoweredRate rate;                           // what it ended with where it is done; none where it begins anew
};

// Why a plan asks for other trials than the store's last revision of the experiment.
struct PlanChange {
  std::string what;     // a sentence without its full stop
  bool hidden = false;  // the file does not show it: other data, another program
};

struct RegisteredPlan {
  RowId experiment = 0;
  std::int64_t revision = 0;  // raised when the file's configurations change
  bool existed = false;       // the experiment was in the store before
  std::int64_t new_configurations = 0;
  std::int64_t retired_configurations = 0;  // of earlier revisions, kept but no longer run
  std::vector<PlanChange> changes;          // since the last run
  std::int64_t fits_apart = 0;              // new ones, because those there went another way (db/nonfinite_fits.h)
  std::vector<UnitState> fits;              // as Plan::fits
  std::vector<UnitState> trials;            // as Plan::trials
};

struct AttemptStart {
  UnitKind kind = UnitKind::fit;
  RowId unit = 0;
  std::int32_t number = 0;  // from 1, per unit
  std::int32_t rank = 0;
  std::string host;
  std::int64_t pid = 0;  // of the trainer
  std::string device;
  std::int32_t slot = 0;
  std::string log;
  std::int64_t resumed_from_step = -1;   // -1: from the start. Rows of later steps are deleted first
  std::optional<LoweredRate> rate = {};  // of the unit, where it is another than the store has
};

struct AttemptEnd {
  RowId attempt = 0;
  TrialStatus outcome = TrialStatus::done;      // of the attempt: done, failed or stopped
  TrialStatus unit_status = TrialStatus::done;  // of the unit from now on: pending when it will be tried again
  std::string reason;
  double wall_s = 0;
  std::int64_t peak_memory_bytes = 0;
  std::optional<LoweredRate> rate = {};  // of the unit from now on, where it changes: later checkpoints are given up
  bool stopped_nonfinite = false;        // done where values were not finite any more (on_nonfinite.policy: stop)
};

struct CheckpointRecord {
  UnitKind kind = UnitKind::fit;
  RowId unit = 0;
  RowId attempt = 0;
  StoredCheckpoint file;
  std::int32_t keep = 2;
  std::int64_t keep_every_steps = 0;  // 0: no history
};

class Store {
 public:
  // Creates or migrates. Throws Error(storage): a newer version, not a tenfold store, no permission.
  static Store open(const std::filesystem::path& file);
  // The same where the store may be published (store_home.h): written at home.live(), checkpoints beside home.db().
  static Store open(const StoreHome& home);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // Idempotent; one transaction. Finds experiment, configurations, folds, fits and trials by identity, adds what is
  // missing, marks attempts that a crash left running as failed ("run ended without a word") and units as pending.
  // parameters: of each configuration's model, for reports; empty: unknown. identities: of the configurations, where
  // the plan is a part of an experiment (experiments/shard.h); empty: they follow from the plan.
  RegisteredPlan register_plan(const Experiment& experiment, const Plan& plan,
                               std::span<const std::int64_t> parameters = {},
                               std::span<const std::string> identities = {});

  void begin();
  void commit();    // durable when it returns
  void rollback();  // nothing since begin() happened

  // Between begin() and commit().
  RowId begin_attempt(const AttemptStart& start);
  void add_rows(RowId fit, std::span<const TrainStepRow> rows);
  void add_rows(RowId trial, std::span<const TttStepRow> rows);
  void add_rows(UnitKind kind, RowId unit, std::span<const EvaluationRow> rows);
  void add_rows(UnitKind kind, RowId unit, std::span<const InnerLossRow> rows);
  void add_rows(UnitKind kind, RowId unit, std::span<const GateRow> rows);
  void add_rows(UnitKind kind, RowId unit, std::span<const PositionLossRow> rows);
  void add_rows(RowId fit, std::span<const GroupStepRow> rows);
  void add_rows(RowId trial, std::span<const PairScoreRow> rows);
  void add_checkpoint(const CheckpointRecord& record);
  void finish_attempt(const AttemptEnd& end);
  void add_event(std::optional<RowId> trial, const std::string& kind, const std::string& detail);

  void add_cluster_job(const ClusterJobRow& row);  // submitted_at is the transaction's time

  // Files that no checkpoint row refers to since the last commit: delete them now. Relative paths.
  std::vector<std::string> take_superseded_checkpoints();
  // Deletes files in checkpoint_folder(db) that no row refers to; under the run lock only.
  std::int64_t sweep_orphans();

  // db/merge.h
  void merge(const MergeSource& shard, MergeSummary& summary);
  void count_trials(MergeSummary& summary);

  const std::filesystem::path& file() const;  // as the user named it

  struct Impl;  // db/store_impl.h

 private:
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

void make_checkpoint_folder(const std::filesystem::path& folder);          // throws Error(storage)
std::filesystem::path checkpoint_folder(const std::filesystem::path& db);  // <db>.checkpoints, db as the user named it

}  // namespace tenfold
