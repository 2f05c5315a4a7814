#include "runner/commands/plan_store.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "db/query.h"
#include "experiments/error.h"
#include "experiments/identity.h"

namespace tenfold {
namespace {

nlohmann::json rows_of(const std::filesystem::path& db, const std::string& sql) {
  std::ostringstream out;
  run_query(db, sql, "json", out);
  try {
    return nlohmann::json::parse(out.str());
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::internal, std::string("the store's answer is no JSON: ") + error.what());
  }
}

// As an SQL string literal.
std::string quoted(const std::string& text) {
  std::string literal = "'";
  for (const char c : text) literal += c == '\'' ? std::string("''") : std::string(1, c);
  return literal + "'";
}

// Time that an attempt took from the first step on: a resumed one says nothing about the whole.
std::string whole_attempt(const std::string& unit) {
  return "(SELECT avg(a.wall_s) FROM attempt a WHERE a." + unit +
         " = u.id AND a.outcome = 'done' AND "
         "coalesce(a.resumed_from_step, 0) <= 0) AS wall_s";
}

std::unordered_map<std::string, StoredUnit> units(const nlohmann::json& rows) {
  std::unordered_map<std::string, StoredUnit> found;
  for (const nlohmann::json& row : rows) {
    StoredUnit unit;
    const auto status = row.at("status").get<std::string>();
    unit.done = status == "done";
    unit.failed = status == "failed";
    if (row.at("wall_s").is_number()) unit.wall_s = row.at("wall_s").get<double>();
    found.emplace(row.at("identity").get<std::string>(), unit);
  }
  return found;
}

std::unordered_map<std::string, double> mean_times(const std::filesystem::path& db, const std::string& table) {
  std::unordered_map<std::string, double> times;
  const nlohmann::json rows =
      rows_of(db, "SELECT u.array_key AS array_key, avg(a.wall_s) AS wall_s FROM attempt a JOIN " + table +
                      " u ON u.id = a." + table +
                      " WHERE a.outcome = 'done' AND coalesce(a.resumed_from_step, 0) <= 0 AND u.array_key IS NOT NULL"
                      " AND a.wall_s IS NOT NULL GROUP BY u.array_key");
  for (const nlohmann::json& row : rows) {
    times.emplace(row.at("array_key").get<std::string>(), row.at("wall_s").get<double>());
  }
  return times;
}

// Stores of earlier versions know less.
NonFiniteCourse course_of(const nlohmann::json& fit) {
  return {fit.value("stopped_nonfinite", 0) != 0, fit.value("rate_scale", 1.0), fit.value("rate_lowered", 0)};
}

}  // namespace

StoredUnits read_stored_units(const std::filesystem::path& db, const std::string& name, const NonFiniteSpec& policy) {
  StoredUnits stored;
  const nlohmann::json fits = rows_of(db, "SELECT u.*, " + whole_attempt("fit") + " FROM fit u");
  stored.fits = units(fits);
  for (const nlohmann::json& row : fits) {
    if (row.at("status") == "failed" || goes_alike(course_of(row), policy)) continue;
    const auto identity = row.at("identity").get<std::string>();
    const auto apart = stored.fits.find(fit_identity_apart(Digest::from_hex(identity), policy).hex());
    stored.fits[identity] = apart == stored.fits.end() ? StoredUnit{} : apart->second;
  }
  stored.trials =
      units(rows_of(db, "SELECT u.identity AS identity, u.status AS status, " + whole_attempt("trial") +
                            " FROM trial u JOIN experiment e ON e.id = u.experiment WHERE e.name = " + quoted(name)));
  stored.fit_wall_s = mean_times(db, "fit");
  stored.trial_wall_s = mean_times(db, "trial");
  return stored;
}

}  // namespace tenfold
