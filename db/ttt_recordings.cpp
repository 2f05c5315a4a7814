#include "db/ttt_recordings.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <tuple>

#include "db/text_table.h"

namespace tenfold {
namespace {

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

WrittenNumber parse_number(const CsvFile& file, const std::string& text, const char* column) {
  WrittenNumber number;
  const char* begin = text.data() + (text.starts_with('+') && !text.starts_with("+-") ? 1 : 0);
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

bool explains(const TttRow& row, double weight) {
  const double tolerance =
      (row.total.rounding + row.entropy.rounding + std::abs(weight) * row.diversity.rounding) * (1 + 1e-9);
  return std::abs(row.total.value - row.entropy.value - weight * row.diversity.value) <= tolerance;
}

// The weight that explains most rows: least squares and the median of the single rows' weights, as they are and with
// few digits, as people write them.
double best_weight(const std::vector<const TttRow*>& rows) {
  double squares = 0, products = 0;
  std::vector<double> single;
  for (const TttRow* row : rows) {
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
        std::count_if(rows.begin(), rows.end(), [&](const TttRow* row) { return explains(*row, candidate); });
    if (explained >= most) {  // later candidates are rounder
      most = explained;
      best = candidate;
    }
  }
  return best;
}

}  // namespace

std::optional<FlaggedRows> flag_unexplained(const std::string& configuration, TttRecording& recording) {
  std::vector<const TttRow*> rows;
  FlaggedRows flagged;
  flagged.configuration = configuration;
  for (const auto& [fold, curve] : recording.folds)
    for (const TttRow& row : curve) {
      rows.push_back(&row);
      if (explains(row, kUsualWeight)) continue;
      ++flagged.rows;
      flagged.first_line = flagged.first_line == 0 ? row.line : std::min(flagged.first_line, row.line);
    }
  if (flagged.rows == 0) return std::nullopt;
  flagged.best_weight = best_weight(rows);
  for (auto& [fold, curve] : recording.folds)
    for (TttRow& row : curve) {
      if (explains(row, kUsualWeight)) continue;
      const bool explained = explains(row, flagged.best_weight);
      row.weight = explained ? flagged.best_weight : std::numeric_limits<double>::quiet_NaN();
      flagged.unexplained += explained ? 0 : 1;
    }
  return flagged;
}

TttRecordings read_ttt_recordings(CsvFile& file) {
  TttRecordings recordings;
  const Columns columns = read_header(file, recordings.ignored_columns);
  std::map<std::string, std::size_t> places;
  std::map<std::tuple<std::size_t, std::int64_t, std::int64_t>, std::int64_t> lines;  // of (configuration, fold, step)
  std::vector<std::string> cells;
  while (file.next(cells)) {
    if (cells.size() != columns.count)
      file.fail("has " + std::to_string(cells.size()) + " cells, the header has " + std::to_string(columns.count));
    const std::string label = columns.configuration ? cells[*columns.configuration] : "imported";
    if (label.empty()) file.fail("configuration is empty");
    const auto [place, added] = places.emplace(label, recordings.configurations.size());
    if (added) recordings.configurations.emplace_back(label, TttRecording{});
    TttRow row;
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
    recordings.configurations[place->second].second.folds[fold].push_back(row);
    ++recordings.rows;
  }
  if (recordings.configurations.empty()) file.fail("has a header and no rows", 1);
  return recordings;
}

}  // namespace tenfold
