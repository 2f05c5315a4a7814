#include "db/merge_checkpoints.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

#include "db/store.h"
#include "experiments/error.h"
#include "experiments/file_aside.h"
#include "experiments/hash.h"
#include "experiments/unique_fd.h"

namespace tenfold {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 20;

bool holds(const std::filesystem::path& file, const std::string& sha256) {
  std::error_code error;
  if (std::filesystem::symlink_status(file, error).type() != std::filesystem::file_type::regular) return false;
  try {
    return sha256_file(file.string()).hex() == sha256;
  } catch (const Error&) {
    return false;  // it is replaced
  }
}

// Why the file cannot be used; none: `to` is what the row says.
std::optional<std::string> copy_file(const std::filesystem::path& from, const std::filesystem::path& to,
                                     const std::string& sha256) {
  if (holds(to, sha256)) return std::nullopt;  // of an earlier merge
  const UniqueFd source(::open(from.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!source && errno == ENOENT) return from.string() + " does not exist";
  if (!source || ::fstat(source.get(), &info) != 0)
    return from.string() + " cannot be read (" + std::strerror(errno) + ")";
  if (!S_ISREG(info.st_mode)) return from.string() + " is not a file";
  FileAside aside(to);
  Hasher hasher;
  std::vector<char> piece(kPiece);
  for (;;) {
    const ssize_t size = ::read(source.get(), piece.data(), piece.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return from.string() + " cannot be read (" + std::strerror(errno) + ")";
    if (size == 0) break;
    aside.write(piece.data(), static_cast<std::size_t>(size));
    hasher.update(piece.data(), static_cast<std::size_t>(size));
  }
  if (hasher.finish().hex() != sha256) return from.string() + " is damaged (its SHA-256 is not the recorded one)";
  aside.commit(true);
  return std::nullopt;
}

// Rows come from a file of somebody else's: no part of a path may lead out of the folder.
bool is_file_name(const std::filesystem::path& path) {
  return path.filename() == path && !path.empty() && path != "." && path != "..";
}

}  // namespace

void leave_out_fits_still_lost(Connection& db, const std::filesystem::path& from_folder,
                               const std::filesystem::path& to_folder) {
  std::vector<std::int64_t> lost;
  {
    Statement select(db,
                     "SELECT k.new, c.path, c.sha256 FROM take_fit k JOIN shard.checkpoint c ON c.id = (SELECT id FROM "
                     "shard.checkpoint WHERE fit = k.old ORDER BY step DESC, id DESC LIMIT 1) WHERE EXISTS (SELECT 1 "
                     "FROM main.attempt a JOIN shard.attempt b ON b.host = a.host AND b.pid = a.pid AND b.started_at = "
                     "a.started_at WHERE a.fit = k.new AND b.fit = k.old AND b.outcome = 'done')");
    while (select.next()) {
      const std::filesystem::path name = select.text(1);
      const std::string sha256 = select.text(2);
      if (!is_file_name(name) || !(holds(to_folder / name, sha256) || holds(from_folder / name, sha256)))
        lost.push_back(select.integer(0));
    }
  }
  Statement leave(db, "DELETE FROM temp.take_fit WHERE new = ?1");
  for (const std::int64_t fit : lost) leave.bind(1, fit).run();
}

std::vector<LostCheckpoint> copy_checkpoint_files(Connection& db, const std::filesystem::path& from_folder,
                                                  const std::filesystem::path& to_folder) {
  db.execute("CREATE TEMP TABLE lost_checkpoint(path TEXT, sha256 TEXT)");
  std::vector<LostCheckpoint> lost;
  Statement insert(db, "INSERT INTO temp.lost_checkpoint VALUES (?1, ?2)");
  Statement select(db,
                   "SELECT DISTINCT c.path, c.sha256 FROM shard.checkpoint c WHERE c.fit IN (SELECT old FROM take_fit) "
                   "OR c.trial IN (SELECT old FROM take_trial) ORDER BY 1");
  while (select.next()) {
    const std::string path = select.text(0), sha256 = select.text(1);
    const std::filesystem::path name = path;
    std::optional<std::string> reason = "its name is not one of a file";
    if (is_file_name(name)) {
      make_checkpoint_folder(to_folder);
      reason = copy_file(from_folder / name, to_folder / name, sha256);
    }
    if (!reason) continue;
    insert.bind(1, path).bind(2, sha256).run();
    lost.push_back({path, sha256, *reason});
  }
  return lost;
}

std::vector<std::string> reopen_fits_without_parameters(Connection& db) {
  // The newest checkpoint of a fit that is done has its trained parameters: an older one would be taken for them.
  db.execute(
      "CREATE TEMP TABLE reopened_fit AS SELECT k.new AS fit FROM take_fit k JOIN main.fit f ON f.id = k.new "
      "JOIN shard.checkpoint c ON c.id = (SELECT id FROM shard.checkpoint WHERE fit = k.old ORDER BY step DESC, id "
      "DESC LIMIT 1) JOIN temp.lost_checkpoint l ON l.path = c.path AND l.sha256 = c.sha256 "
      "WHERE f.status = 'done' AND EXISTS (SELECT 1 FROM main.trial t WHERE t.fit = f.id AND t.status <> 'done')");
  db.execute("UPDATE main.fit SET status = 'pending' WHERE id IN (SELECT fit FROM temp.reopened_fit)");
  std::vector<std::string> told;
  Statement select(db,
                   "SELECT f.id, f.repeat, f.fold FROM main.fit f JOIN temp.reopened_fit r ON r.fit = f.id ORDER BY 1");
  while (select.next())
    told.push_back("fit " + select.text(0) + " (repeat " + select.text(1) + " fold " + select.text(2) +
                   ") is computed again by the next run, for its trained parameters are lost");
  return told;
}

}  // namespace tenfold
