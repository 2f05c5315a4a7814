#include "db/import_ttt_steps.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "db/csv_file.h"
#include "db/run_lock.h"
#include "db/schema.h"
#include "db/sqlite.h"
#include "db/store.h"
#include "db/store_home.h"
#include "db/text_table.h"
#include "experiments/hash.h"

namespace tenfold {
namespace {

constexpr double kUsualWeight = 0.15;  // of the entropy and diversity objective

// A number as written: its rounding is half a unit of its last digit.
struct Written {
  double value = 0;
  double rounding = 0;
};

struct Row {
  std::int64_t line = 0;
  std::int64_t step = 0;
  Written total, entropy, diversity;
  double weight = kUsualWeight;  // NaN: no single weight explains the row
};

struct Recording {
  std::map<std::int64_t, std::vector<Row>> folds;  // rows in the order of the file, then by step
};

struct Columns {
  std::optional<std::size_t> configuration;
  std::size_t fold = 0, step = 0, total = 0, entropy = 0, diversity = 0;
  std::size_t count = 0;
};

Columns read_header(CsvFile& file, std::vector<std::string>& ignored) {
  std::vector<std::string> names;
  if (!file.next(names)) file.fail("is empty; expected the columns fold, step, total, entropy, diversity", 1);
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!places.emplace(names[i], i).second) file.fail("names the column '" + printable(names[i]) + "' twice");
  const auto take = [&](const char* name) {
    const auto found = places.find(name);
    if (found == places.end())
      file.fail(std::string("has no column '") + name +
                "'; expected fold, step, total, entropy, diversity and, where there are several, configuration");
    const std::size_t place = found->second;
    places.erase(found);
    return place;
  };
  Columns columns;
  columns.count = names.size();
  columns.fold = take("fold");
  columns.step = take("step");
  columns.total = take("total");
  columns.entropy = take("entropy");
  columns.diversity = take("diversity");
  if (places.contains("configuration")) columns.configuration = take("configuration");
  for (const auto& [name, place] : places) ignored.push_back(printable(name));
  return columns;
}

std::int64_t parse_integer(const CsvFile& file, const std::string& text, const char* column) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > 1'000'000'000)
    file.fail(std::string(column) + " is '" + printable(text) + "', not a whole number from 0");
  return value;
}

Written parse_number(const CsvFile& file, const std::string& text, const char* column) {
  Written number;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(begin, text.data() + text.size(), number.value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number.value))
    file.fail(std::string(column) + " is '" + printable(text) + "', not a finite number");
  const std::size_t exponent_at = text.find_first_of("eE");
  const std::string mantissa = text.substr(0, exponent_at);
  const std::size_t point = mantissa.find('.');
  const double decimals = point == std::string::npos ? 0.0 : static_cast<double>(mantissa.size() - point - 1);
  double exponent = 0;
  if (exponent_at != std::string::npos) {
    const char* start = text.data() + exponent_at + 1 + (text[exponent_at + 1] == '+' ? 1 : 0);
    std::from_chars(start, text.data() + text.size(), exponent);
  }
  number.rounding = 0.5 * std::pow(10.0, exponent - decimals) + 1e-12 * std::abs(number.value);
  return number;
}

bool explains(const Row& row, double weight) {
  const double tolerance =
      (row.total.rounding + row.entropy.rounding + std::abs(weight) * row.diversity.rounding) * (1 + 1e-9);
  return std::abs(row.total.value - row.entropy.value - weight * row.diversity.value) <= tolerance;
}

// The weight that explains most rows: least squares and the median of the single rows' weights, as they are and with
// few digits, as people write them.
double best_weight(const std::vector<const Row*>& rows) {
  double squares = 0, products = 0;
  std::vector<double> single;
  for (const Row* row : rows) {
    const double rest = row->total.value - row->entropy.value;
    squares += row->diversity.value * row->diversity.value;
    products += row->diversity.value * rest;
    if (std::abs(row->diversity.value) > 10 * row->diversity.rounding) single.push_back(rest / row->diversity.value);
  }
  std::vector<double> candidates;
  if (squares > 0) candidates.push_back(products / squares);
  if (!single.empty()) {
    std::nth_element(single.begin(), single.begin() + single.size() / 2, single.end());
    candidates.push_back(single[single.size() / 2]);
  }
  for (std::size_t i = candidates.size(); i-- > 0;)
    for (const double grid : {1e4, 1e3, 1e2}) candidates.push_back(std::round(candidates[i] * grid) / grid);
  double best = candidates.empty() ? kUsualWeight : candidates[0];
  std::int64_t most = -1;
  for (const double candidate : candidates) {
    const auto explained =
        std::count_if(rows.begin(), rows.end(), [&](const Row* row) { return explains(*row, candidate); });
    if (explained >= most) {  // later candidates are rounder
      most = explained;
      best = candidate;
    }
  }
  return best;
}

std::optional<FlaggedRows> flag(const std::string& configuration, Recording& recording) {
  std::vector<const Row*> rows;
  FlaggedRows flagged;
  flagged.configuration = configuration;
  for (const auto& [fold, curve] : recording.folds)
    for (const Row& row : curve) {
      rows.push_back(&row);
      if (explains(row, kUsualWeight)) continue;
      ++flagged.rows;
      flagged.first_line = flagged.first_line == 0 ? row.line : std::min(flagged.first_line, row.line);
    }
  if (flagged.rows == 0) return std::nullopt;
  flagged.best_weight = best_weight(rows);
  for (auto& [fold, curve] : recording.folds)
    for (Row& row : curve) {
      if (explains(row, kUsualWeight)) continue;
      const bool explained = explains(row, flagged.best_weight);
      row.weight = explained ? flagged.best_weight : std::numeric_limits<double>::quiet_NaN();
      flagged.unexplained += explained ? 0 : 1;
    }
  return flagged;
}

using Recordings = std::vector<std::pair<std::string, Recording>>;  // by first appearance

Recordings read_file(CsvFile& file, ImportSummary& summary) {
  const Columns columns = read_header(file, summary.ignored_columns);
  Recordings recordings;
  std::map<std::string, std::size_t> places;
  std::map<std::tuple<std::size_t, std::int64_t, std::int64_t>, std::int64_t> lines;  // of (configuration, fold, step)
  std::vector<std::string> cells;
  while (file.next(cells)) {
    if (cells.size() != columns.count)
      file.fail("has " + std::to_string(cells.size()) + " cells, the header has " + std::to_string(columns.count));
    const std::string label = columns.configuration ? cells[*columns.configuration] : "imported";
    if (label.empty()) file.fail("configuration is empty");
    const auto [place, added] = places.emplace(label, recordings.size());
    if (added) recordings.emplace_back(label, Recording{});
    Row row;
    row.line = file.line();
    row.step = parse_integer(file, cells[columns.step], "step");
    row.total = parse_number(file, cells[columns.total], "total");
    row.entropy = parse_number(file, cells[columns.entropy], "entropy");
    row.diversity = parse_number(file, cells[columns.diversity], "diversity");
    const std::int64_t fold = parse_integer(file, cells[columns.fold], "fold");
    const auto [first, unique] = lines.emplace(std::tuple{place->second, fold, row.step}, row.line);
    if (!unique)
      file.fail("step " + std::to_string(row.step) + " of fold " + std::to_string(fold) +
                " is there already, in line " + std::to_string(first->second));
    recordings[place->second].second.folds[fold].push_back(row);
    ++summary.rows;
  }
  if (recordings.empty()) file.fail("has a header and no rows", 1);
  return recordings;
}

// Imported losses have no plan behind them: a fold of unknown sizes, a done trial without a fit.
class ImportWriter {
 public:
  ImportWriter(Connection& db, const std::string& name) : db_(db), name_(name), now_(utc_now()) {}

  std::int64_t experiment(const std::filesystem::path& csv_file) {
    Statement find(db_, "SELECT 1 FROM experiment WHERE name = ?1");
    if (find.bind(1, name_).next())
      throw Error(ErrorKind::config,
                  db_.file().string() + " has an experiment '" + printable(name_) + "' already; choose another --name");
    Statement insert(db_,
                     "INSERT INTO experiment(name, revision, origin, created_at, updated_at) "
                     "VALUES(?1, 1, 'import', ?2, ?2)");
    insert.bind(1, name_).bind(2, now_).run();
    experiment_ = db_.last_insert_id();
    Statement revision(db_,
                       "INSERT INTO experiment_revision(experiment, revision, created_at, file, text) "
                       "VALUES(?1, 1, ?2, ?3, '')");
    revision.bind(1, experiment_).bind(2, now_).bind(3, csv_file.string()).run();
    return experiment_;
  }

  std::int64_t configuration(const std::string& label, std::int64_t position) {
    Statement insert(db_,
                     "INSERT INTO configuration(experiment, label, revision, position, identity) "
                     "VALUES(?1, ?2, 1, ?3, ?4)");
    insert.bind(1, experiment_).bind(2, label).bind(3, position).bind(4, identity("configuration", label, 0)).run();
    return db_.last_insert_id();
  }

  std::int64_t trial(std::int64_t configuration, const std::string& label, std::int64_t fold) {
    Statement find(db_, "SELECT id FROM fold WHERE experiment = ?1 AND repeat = 0 AND fold = ?2");
    std::int64_t split = 0;
    if (find.bind(1, experiment_).bind(2, fold).next()) {
      split = find.integer(0);
      find.reset();
    } else {
      Statement insert(db_, "INSERT INTO fold(experiment, repeat, fold, split_hash) VALUES(?1, 0, ?2, '')");
      insert.bind(1, experiment_).bind(2, fold).run();
      split = db_.last_insert_id();
    }
    Statement insert(db_,
                     "INSERT INTO trial(experiment, configuration, repeat, fold, split, identity, status, revision) "
                     "VALUES(?1, ?2, 0, ?3, ?4, ?5, 'done', 1)");
    insert.bind(1, experiment_).bind(2, configuration).bind(3, fold).bind(4, split);
    insert.bind(5, identity("trial", label, fold)).run();
    return db_.last_insert_id();
  }

  void rows(std::int64_t trial, const std::vector<Row>& rows) {
    Statement insert(db_,
                     "INSERT INTO ttt_step(trial, step, total, entropy, diversity, diversity_weight) "
                     "VALUES(?1, ?2, ?3, ?4, ?5, ?6)");
    for (const Row& row : rows)
      insert.bind(1, trial)
          .bind(2, row.step)
          .bind(3, row.total.value)
          .bind(4, row.entropy.value)
          .bind(5, row.diversity.value)
          .bind(6, row.weight)
          .run();
  }

  void event(std::int64_t trial, const std::string& detail) {
    Statement insert(db_, "INSERT INTO event(at, trial, kind, detail) VALUES(?1, ?2, 'import', ?3)");
    insert.bind(1, now_).bind(2, trial).bind(3, detail).run();
  }

 private:
  std::string identity(const char* kind, const std::string& label, std::int64_t fold) const {
    return sha256(std::string("import\n") + kind + "\n" + name_ + "\n" + label + "\n" + std::to_string(fold)).hex();
  }
  Connection& db_;
  std::string name_;
  std::string now_;
  std::int64_t experiment_ = 0;
};

std::string flag_text(const FlaggedRows& flagged) {
  std::string text = std::to_string(flagged.rows) + " rows of '" + printable(flagged.configuration) +
                     "' (first in line " + std::to_string(flagged.first_line) +
                     ") have a total that is not entropy + 0.15 diversity within the rounding of their digits; w = " +
                     short_number(flagged.best_weight) + " fits best";
  if (flagged.unexplained > 0) text += ", and " + std::to_string(flagged.unexplained) + " of them do not fit it either";
  return text;
}

}  // namespace

ImportSummary import_ttt_steps(const std::filesystem::path& db, const std::filesystem::path& csv_file,
                               const std::string& name) {
  if (name.empty()) throw Error(ErrorKind::config, "import: the experiment needs a name; give one with --name");
  ImportSummary summary;
  summary.experiment = name;
  CsvFile file(csv_file);
  Recordings recordings = read_file(file, summary);
  summary.configurations = static_cast<std::int64_t>(recordings.size());

  const RunLock lock = RunLock::acquire(db, name);
  const StoreHome home(db, lock);
  Store::open(home);  // makes or migrates the file
  Connection connection(home.live(), Connection::Access::read_write);
  connection.execute("PRAGMA foreign_keys = ON");
  connection.execute("PRAGMA synchronous = FULL");
  Transaction transaction(connection);
  ImportWriter writer(connection, name);
  writer.experiment(csv_file);
  std::int64_t position = 0;
  for (auto& [label, recording] : recordings) {
    const std::optional<FlaggedRows> flagged = flag(label, recording);
    const std::int64_t configuration = writer.configuration(label, position++);
    std::optional<std::int64_t> first_trial;
    for (const auto& [fold, rows] : recording.folds) {
      const std::int64_t trial = writer.trial(configuration, label, fold);
      if (!first_trial) first_trial = trial;
      writer.rows(trial, rows);
      ++summary.trials;
    }
    if (!flagged) continue;
    writer.event(*first_trial, flag_text(*flagged));
    summary.flagged.push_back(*flagged);
  }
  transaction.commit();
  home.publish();
  return summary;
}

std::string describe(const ImportSummary& summary) {
  std::string text = "imported " + std::to_string(summary.rows) + " rows as '" + printable(summary.experiment) +
                     "': " + std::to_string(summary.configurations) +
                     (summary.configurations == 1 ? " configuration, " : " configurations, ") +
                     std::to_string(summary.trials) + " curves\n";
  for (const FlaggedRows& flagged : summary.flagged) text += "note: " + flag_text(flagged) + "\n";
  if (!summary.ignored_columns.empty()) {
    text += "note: ignored columns:";
    for (const std::string& column : summary.ignored_columns) text += " " + column;
    text += "\n";
  }
  return text;
}

}  // namespace tenfold
