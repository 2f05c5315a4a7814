#include <algorithm>
#include <system_error>

#include "db/inner_loop_data.h"
#include "db/reader.h"
#include "db/schema.h"
#include "db/selection.h"
#include "db/store.h"
#include "db/text_table.h"

// Checkpoints of the store as models that can be run once more.
namespace tenfold {
namespace {

// "512" or "1x28x28" as the dataset table holds it.
std::vector<std::int64_t> parse_shape(const std::string& text) {
  std::vector<std::int64_t> shape;
  std::int64_t size = 0;
  bool digits = false;
  for (const char c : text + "x") {
    if (c >= '0' && c <= '9' && size < (std::int64_t{1} << 40)) {
      size = 10 * size + (c - '0');
      digits = true;
    } else if (c == 'x' && digits) {
      shape.push_back(size);
      size = 0;
      digits = false;
    } else {
      throw Error(ErrorKind::storage, "the store holds the unreadable sample shape '" + printable(text) + "'");
    }
  }
  return shape;
}

constexpr const char* kColumns =
    "SELECT k.path, k.array_index, k.step, k.fit IS NOT NULL, c.specification, d.fingerprint, d.sample_shape, "
    "d.classes, "
    "t.repeat, t.fold, e.name || '/' || c.label, t.id FROM trial t JOIN configuration c ON c.id = t.configuration "
    "JOIN experiment e ON e.id = t.experiment JOIN fold f ON f.id = t.split JOIN dataset d ON d.id = f.dataset "
    "JOIN checkpoint k ON (k.fit = t.fit OR k.trial = t.id) ";

SavedModel read_row(const Statement& select, const std::filesystem::path& folder) {
  SavedModel model;
  model.checkpoint = folder / select.text(0);
  model.array_index = select.integer(1);
  model.step = select.integer(2);
  model.of_fit = select.integer(3) != 0;
  model.configuration = select.text(4);
  model.fingerprint = select.text(5);
  model.sample_shape = parse_shape(select.text(6));
  model.classes = select.integer(7);
  model.repeat = static_cast<std::int32_t>(select.integer(8));
  model.fold = static_cast<std::int32_t>(select.integer(9));
  model.name = "trial " + std::to_string(select.integer(11)) + " (" + printable(select.text(10)) + ", fold " +
               std::to_string(model.fold) + "), " + (model.of_fit ? "training" : "adaptation") + " step " +
               std::to_string(model.step);
  return model;
}

std::filesystem::path absolute_folder(const std::filesystem::path& db) {
  return std::filesystem::absolute(checkpoint_folder(db)).lexically_normal();
}

}  // namespace

bool inner_losses_recorded(const std::filesystem::path& db, std::int64_t trial, std::int64_t step) {
  Reader reader = Reader::open(db);
  check_is_current(reader.connection(), "`tenfold diagnose`");
  Statement select(reader.connection(), "SELECT 1 FROM inner_loss WHERE trial = ?1 AND step = ?2 LIMIT 1");
  return select.bind(1, trial).bind(2, step).next();
}

SavedModel saved_model_of_trial(const std::filesystem::path& db, const std::string& name, std::int64_t trial,
                                std::optional<std::int64_t> step) {
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  check_is_current(connection, "`tenfold diagnose`");
  connection.execute("BEGIN");
  const ExperimentInfo experiment = select_experiment(connection, name);
  Statement select(connection,
                   std::string(kColumns) + "WHERE t.id = ?1 AND e.id = ?2 ORDER BY k.fit IS NULL, k.step DESC");
  select.bind(1, trial).bind(2, experiment.id);
  std::string steps;
  while (select.next()) {
    if (!step || select.integer(2) == *step) return read_row(select, absolute_folder(db));
    steps += (steps.empty() ? "" : ", ") + std::to_string(select.integer(2));
  }
  throw Error(ErrorKind::config,
              "no checkpoint of trial " + std::to_string(trial) + " of '" + printable(experiment.name) + "'" +
                  (step ? " at step " + std::to_string(*step) : "") + " is kept" +
                  (steps.empty() ? std::string(": those of finished trials are deleted") : "; there is step " + steps) +
                  "; checkpoint: {keep_every_steps: N} keeps one every N steps");
}

std::optional<SavedModel> saved_model_of_file(const std::filesystem::path& file,
                                              std::optional<std::int64_t> array_index) {
  constexpr std::string_view kSuffix = ".checkpoints";
  const std::filesystem::path whole = std::filesystem::absolute(file).lexically_normal();
  const std::string folder = whole.parent_path().string();
  if (!folder.ends_with(kSuffix)) return std::nullopt;
  const std::filesystem::path db = folder.substr(0, folder.size() - kSuffix.size());
  std::error_code error;
  if (!std::filesystem::is_regular_file(db, error)) return std::nullopt;
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  check_is_current(connection, "`tenfold diagnose`");
  Statement select(connection, std::string(kColumns) + "WHERE k.path = ?1 ORDER BY k.array_index, t.id");
  select.bind(1, whole.filename().string());
  std::optional<SavedModel> chosen;
  std::vector<std::int64_t> members;
  while (select.next()) {
    const std::int64_t member = select.integer(1);
    if (members.empty() || members.back() != member) members.push_back(member);
    if (!chosen && (!array_index || *array_index == member)) chosen = read_row(select, folder);
  }
  if (members.empty()) return std::nullopt;
  if (!array_index && members.size() > 1) {
    std::string list;
    for (const std::int64_t member : members) list += (list.empty() ? "" : ", ") + std::to_string(member);
    throw Error(ErrorKind::config, whole.string() + " holds " + std::to_string(members.size()) +
                                       " members; choose one with --member: " + list);
  }
  if (!chosen)
    throw Error(ErrorKind::config,
                whole.string() + " has no member " + std::to_string(*array_index) + " that the store knows");
  return chosen;
}

}  // namespace tenfold
