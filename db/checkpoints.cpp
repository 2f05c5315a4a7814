#include <algorithm>
#include <system_error>
#include <unordered_set>

#include "db/store.h"
#include "db/store_impl.h"
#include "experiments/storage_advice.h"

// Which checkpoint rows live, and which files nobody refers to any more.
namespace tenfold {

std::filesystem::path checkpoint_folder(const std::filesystem::path& db) { return db.string() + ".checkpoints"; }

void make_checkpoint_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw storage_error(folder, "the folder of checkpoints cannot be made", error.value());
}

std::vector<Store::Impl::CheckpointRow> Store::Impl::checkpoint_rows(UnitKind kind, RowId unit) {
  Statement& select = kind == UnitKind::fit ? statements->checkpoints_of_fit : statements->checkpoints_of_trial;
  select.bind(1, unit);
  std::vector<CheckpointRow> rows;
  while (select.next()) rows.push_back({select.integer(0), select.integer(1), select.integer(2) != 0, select.text(3)});
  return rows;
}

void Store::Impl::drop_checkpoint(const CheckpointRow& row) {
  statements->delete_checkpoint.bind(1, row.id).run();
  dropped_paths.push_back(row.path);
}

void Store::Impl::drop_checkpoints_after(UnitKind kind, RowId unit, std::int64_t step) {
  for (const CheckpointRow& row : checkpoint_rows(kind, unit))
    if (row.step > step) drop_checkpoint(row);
}

void Store::add_checkpoint(const CheckpointRecord& record) {
  impl_->require_transaction("add_checkpoint");
  const bool fit = record.kind == UnitKind::fit;
  const bool history = record.keep_every_steps > 0 && record.file.step % record.keep_every_steps == 0;
  // A step computed again after a resume replaces its earlier file.
  impl_->drop_checkpoints_after(record.kind, record.unit, record.file.step - 1);
  Statement& insert = impl_->statements->insert_checkpoint;
  insert.bind_null(fit ? 2 : 1).bind(fit ? 1 : 2, record.unit).bind(3, record.attempt).bind(4, record.file.path);
  insert.bind(5, record.file.array_index).bind(6, record.file.step).bind(7, record.file.sha256);
  insert.bind(8, record.file.bytes).bind(9, std::int64_t{history}).bind(10, impl_->now).run();
  std::int32_t newer = 0;
  for (const Impl::CheckpointRow& row : impl_->checkpoint_rows(record.kind, record.unit))
    if (newer++ >= std::max(record.keep, 1) && !row.history) impl_->drop_checkpoint(row);
}

// A done or failed trial needs none; a done fit its last one, until every trial that starts from it is done or
// failed. History that the user asked for stays.
void Store::Impl::retire_checkpoints(UnitKind kind, RowId unit, TrialStatus status) {
  const bool settled = status == TrialStatus::done || status == TrialStatus::failed;
  if (!settled) return;
  RowId fit = unit;
  if (kind == UnitKind::trial) {
    for (const CheckpointRow& row : checkpoint_rows(kind, unit))
      if (!row.history) drop_checkpoint(row);
    statements->trial_fit.bind(1, unit);
    const bool has_fit = statements->trial_fit.next() && !statements->trial_fit.is_null(0);
    if (has_fit) fit = statements->trial_fit.integer(0);
    statements->trial_fit.reset();
    if (!has_fit) return;
  }
  const std::vector<CheckpointRow> rows = checkpoint_rows(UnitKind::fit, fit);
  if (rows.empty()) return;
  statements->done_fit.bind(1, fit);
  const bool done = statements->done_fit.next();
  statements->done_fit.reset();
  if (!done && kind == UnitKind::trial) return;
  statements->open_trial_of_fit.bind(1, fit);
  const bool wanted = done && statements->open_trial_of_fit.next();
  statements->open_trial_of_fit.reset();
  for (std::size_t i = wanted ? 1 : 0; i < rows.size(); ++i)
    if (!rows[i].history) drop_checkpoint(rows[i]);
}

// Names are of files in the store's own folder: a store from elsewhere must not have others deleted.
static bool is_plain_name(const std::string& path) {
  return !path.empty() && path != "." && path != ".." && path.find('/') == std::string::npos;
}

void Store::Impl::note_superseded() {
  std::sort(dropped_paths.begin(), dropped_paths.end());
  dropped_paths.erase(std::unique(dropped_paths.begin(), dropped_paths.end()), dropped_paths.end());
  for (const std::string& path : dropped_paths) {
    statements->path_in_use.bind(1, path);
    if (!statements->path_in_use.next() && is_plain_name(path)) superseded.push_back(path);
    statements->path_in_use.reset();
  }
  dropped_paths.clear();
}

std::vector<StoredCheckpoint> Store::Impl::stored_checkpoints(UnitKind kind, RowId unit) {
  Statement select(connection, std::string("SELECT path, array_index, step, sha256, bytes FROM checkpoint WHERE ") +
                                   (kind == UnitKind::fit ? "fit" : "trial") + " = ?1 ORDER BY step DESC, id DESC");
  select.bind(1, unit);
  std::vector<StoredCheckpoint> files;
  while (select.next())
    files.push_back({select.text(0), select.integer(1), select.integer(2), select.text(3), select.integer(4)});
  return files;
}

std::vector<std::string> Store::take_superseded_checkpoints() { return std::exchange(impl_->superseded, {}); }

std::int64_t Store::sweep_orphans() {
  std::unordered_set<std::string> wanted;
  Statement select(impl_->connection, "SELECT DISTINCT path FROM checkpoint");
  while (select.next()) wanted.insert(select.text(0));
  const std::filesystem::path folder = checkpoint_folder(file());
  std::error_code error;
  std::int64_t deleted = 0;
  std::vector<std::filesystem::path> orphans;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->symlink_status().type() == std::filesystem::file_type::regular &&
        !wanted.contains(entry->path().filename().string()))
      orphans.push_back(entry->path());
  for (const std::filesystem::path& orphan : orphans) deleted += std::filesystem::remove(orphan, error) ? 1 : 0;
  return deleted;
}

}  // namespace tenfold
