#include "db/experiment_report_data.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "db/statistics.h"
#include "experiments/ignored_keys.h"

namespace tenfold {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// One epoch of one fit.
struct Epoch {
  std::vector<double> losses;
  double wall_s = 0;
};

struct Course {
  std::vector<Epoch> epochs;
  std::vector<double> grad_norms;
  double first_lr = kNan, last_lr = kNan;
};

Course course_of(Connection& connection, std::int64_t fit) {
  Statement select(connection,
                   "SELECT epoch, loss, lr, grad_norm, wall_s FROM train_step WHERE fit = ?1 ORDER BY step");
  select.bind(1, fit);
  Course course;
  std::int64_t open = -1;
  while (select.next()) {
    if (course.epochs.empty() || select.integer(0) != open) course.epochs.emplace_back();
    open = select.integer(0);
    Epoch& epoch = course.epochs.back();
    epoch.losses.push_back(select.real(1));
    if (!select.is_null(4)) epoch.wall_s += select.real(4);
    course.last_lr = select.real(2);
    // A warm-up begins at 0: the highest rate is what the schedule falls from.
    if (!(course.first_lr >= course.last_lr)) course.first_lr = course.last_lr;
    if (std::isfinite(select.real(3))) course.grad_norms.push_back(select.real(3));
  }
  return course;
}

// A metric's course in a phase, by step.
std::vector<double> metric_course(Connection& connection, std::int64_t trial, const char* phase, const char* metric) {
  Statement select(connection,
                   "SELECT value FROM evaluation WHERE trial = ?1 AND phase = ?2 AND metric = ?3 ORDER BY step");
  select.bind(1, trial).bind(2, std::string_view(phase)).bind(3, std::string_view(metric));
  std::vector<double> values;
  while (select.next())
    if (!select.is_null(0)) values.push_back(select.real(0));
  return values;
}

double best_of(const std::vector<double>& values, bool higher) {
  if (values.empty()) return kNan;
  return higher ? *std::max_element(values.begin(), values.end()) : *std::min_element(values.begin(), values.end());
}

class Measuring {
 public:
  explicit Measuring(MeasuredConfiguration& result) : result_(result) {}

  void add(Topic topic, const std::string& name, double value, int digits = 4) {
    if (std::isnan(value)) return;
    auto& all = result_.measures;
    auto place = std::find_if(all.begin(), all.end(), [&](const Measure& m) { return m.name == name; });
    if (place == all.end()) place = all.insert(all.end(), Measure{topic, name, digits, {}});
    place->folds.push_back(value);
  }

 private:
  MeasuredConfiguration& result_;
};

void measure_training(const Course& course, Measuring& measuring) {
  if (course.epochs.empty()) return;
  std::vector<double> epoch_loss, variation;
  double wall_s = 0;
  for (const Epoch& epoch : course.epochs) {
    epoch_loss.push_back(mean(epoch.losses));
    if (epoch.losses.size() > 1 && epoch_loss.back() != 0)
      variation.push_back(sample_sd(epoch.losses) / std::abs(epoch_loss.back()));
    wall_s += epoch.wall_s;
  }
  measuring.add(Topic::performance, "train loss, first epoch", epoch_loss.front());
  measuring.add(Topic::performance, "train loss, final", epoch_loss.back());
  measuring.add(Topic::performance, "train loss, best", best_of(epoch_loss, false));
  const auto epochs = static_cast<double>(course.epochs.size());
  measuring.add(Topic::dynamics, "epochs", epochs, 0);
  measuring.add(Topic::dynamics, "training time, s", wall_s, 2);
  measuring.add(Topic::dynamics, "mean epoch time, s", wall_s / epochs, 3);
  measuring.add(Topic::dynamics, "gradient norm, mean", mean(course.grad_norms));
  measuring.add(Topic::dynamics, "gradient norm, largest", best_of(course.grad_norms, true));
  measuring.add(Topic::dynamics, "gradient norm, sd", sample_sd(course.grad_norms));
  measuring.add(Topic::dynamics, "batch-loss coefficient of variation", mean(variation));
  if (course.last_lr > 0) measuring.add(Topic::insights, "lr reduction factor", course.first_lr / course.last_lr, 2);
  const double best = best_of(epoch_loss, false);
  if (epoch_loss.front() != 0)
    measuring.add(Topic::insights, "train loss, first to best %",
                  100 * (epoch_loss.front() - best) / epoch_loss.front(), 2);
  // How much the last fifth of the epochs still brought.
  const std::size_t before = epoch_loss.size() - 1 - epoch_loss.size() / 5;
  if (epoch_loss.size() >= 5 && epoch_loss[before] != 0)
    measuring.add(Topic::insights, "train loss, fall over the last fifth %",
                  100 * (epoch_loss[before] - epoch_loss.back()) / std::abs(epoch_loss[before]), 2);
}

void measure_metrics(Connection& connection, std::int64_t trial, Measuring& measuring) {
  for (const auto& [metric, shown, higher] :
       {std::tuple{"accuracy", "accuracy %", true}, std::tuple{"nll", "nll", false}}) {
    const double factor = higher ? 100 : 1;
    const int digits = higher ? 2 : 4;
    const std::vector<double> train = metric_course(connection, trial, "train", metric);
    std::vector<double> check = metric_course(connection, trial, "validation", metric);
    const std::vector<double> before = metric_course(connection, trial, "before", metric);
    const std::vector<double> after = metric_course(connection, trial, "after", metric);
    const auto add = [&](const char* what, double value) {
      measuring.add(Topic::performance, std::string(what) + " " + shown, factor * value, digits);
    };
    if (!train.empty()) add("train, final:", train.back());
    if (!check.empty()) {
      add("validation, final:", check.back());
      add("validation, best:", best_of(check, higher));
      const auto best = std::find(check.begin(), check.end(), best_of(check, higher));
      if (!higher && check.size() >= 3)
        measuring.add(Topic::insights, "best validation loss at % of the training",
                      100.0 * static_cast<double>(best - check.begin() + 1) / static_cast<double>(check.size()), 0);
      if (check.front() != 0 && !higher)
        measuring.add(Topic::insights, "validation loss, first to best %",
                      100 * (check.front() - best_of(check, higher)) / std::abs(check.front()), 2);
    }
    if (!before.empty()) add("held-out, trained:", before.back());
    if (!after.empty()) add("held-out, adapted:", after.back());
    // A gap is positive where the model does better on what it was trained on.
    if (train.empty() || (check.empty() && before.empty())) continue;
    const std::string side = check.empty() ? "train-held-out gap" : "train-validation gap";
    if (check.empty()) check = before;
    const double sign = higher ? 1 : -1;
    const std::string unit = higher ? ", accuracy points" : ", nll";
    measuring.add(Topic::overfitting, side + ", final" + unit, sign * factor * (train.back() - check.back()), digits);
    measuring.add(Topic::overfitting, side + ", largest" + unit,
                  sign * factor * (train.back() - best_of(check, !higher)), digits);
  }
}

void read_dataset(Connection& connection, std::int64_t configuration, DatasetFacts& data) {
  Statement select(connection,
                   "SELECT d.kind, d.label_kind, d.sample_shape, d.samples, d.classes, d.steps, d.shortest, d.longest, "
                   "d.smallest_value, d.largest_value, f.train_n, f.validation_n, f.test_n FROM trial t "
                   "JOIN experiment e ON e.id = t.experiment AND e.revision = t.revision JOIN fold f ON f.id = t.split "
                   "JOIN dataset d ON d.id = f.dataset WHERE t.configuration = ?1 ORDER BY t.repeat, t.fold");
  select.bind(1, configuration);
  while (select.next()) {
    data.kind = select.text(0);
    data.label_kind = select.text(1);
    data.shape = select.text(2);
    data.samples = select.integer(3);
    data.classes = select.integer(4);
    data.steps = select.integer(5);
    data.shortest = select.integer(6);
    data.longest = select.integer(7);
    data.smallest_value = select.real(8);
    data.largest_value = select.real(9);
    data.train_n.push_back(select.real(10));
    data.validation_n.push_back(select.real(11));
    data.test_n.push_back(select.real(12));
  }
  data.features = data.shape.empty() ? 0 : 1;
  std::size_t begin = 0;
  while (begin < data.shape.size()) {
    const std::size_t end = std::min(data.shape.find('x', begin), data.shape.size());
    data.features *= std::strtoll(data.shape.substr(begin, end - begin).c_str(), nullptr, 10);
    begin = end + 1;
  }
}

void flatten(const nlohmann::ordered_json& value, const std::string& key,
             std::vector<std::pair<std::string, std::string>>& settings) {
  if (value.is_object()) {
    for (const auto& [name, inner] : value.items()) flatten(inner, key.empty() ? name : key + "." + name, settings);
    return;
  }
  settings.emplace_back(key, value.is_string() ? value.get<std::string>()
                             : value.is_null() ? std::string("none")
                                               : value.dump());
}

}  // namespace

const Measure* MeasuredConfiguration::find(const std::string& name) const {
  const auto found = std::find_if(measures.begin(), measures.end(), [&](const Measure& m) { return m.name == name; });
  return found == measures.end() ? nullptr : &*found;
}

MeasuredConfiguration measure_configuration(Connection& connection, const ConfigurationInfo& configuration) {
  MeasuredConfiguration result;
  result.configuration = configuration;
  {
    Statement select(connection, "SELECT specification, parameters FROM configuration WHERE id = ?1");
    select.bind(1, configuration.id).next();
    result.specification = select.text(0);
    result.parameters = select.integer(1);
  }
  read_dataset(connection, configuration.id, result.data);
  Measuring measuring(result);
  Statement fit(connection,
                "SELECT t.fit, (SELECT sum(a.wall_s) FROM attempt a WHERE a.fit = t.fit), "
                "(SELECT sum(a.wall_s) FROM attempt a WHERE a.trial = t.id) FROM trial t WHERE t.id = ?1");
  for (const TrialInfo& trial : trials_of(connection, configuration.id)) {
    fit.bind(1, trial.id).next();
    const std::int64_t number = fit.integer(0);
    const double fit_s = fit.real(1), trial_s = fit.real(2);
    fit.reset();
    if (trial.status != "done") {
      ++result.left_out;
      continue;
    }
    ++result.folds;
    measure_training(course_of(connection, number), measuring);
    measuring.add(Topic::dynamics, "wall time of the fit's attempts, s", fit_s, 2);
    measuring.add(Topic::dynamics, "wall time of the trial's attempts, s", trial_s, 2);
    measure_metrics(connection, trial.id, measuring);
  }
  return result;
}

std::vector<std::pair<std::string, std::string>> settings_of(const std::string& specification,
                                                             const std::string& section) {
  const auto json = nlohmann::ordered_json::parse(readable_json(specification), nullptr, false);
  std::vector<std::pair<std::string, std::string>> all, settings;
  if (json.is_object()) flatten(json, "", all);
  const std::map<std::string, std::string> values(all.begin(), all.end());
  const auto is_read = [&](const std::string& key) {
    return std::ranges::none_of(kind_bound_keys(), [&](const KindBoundKey& bound) {
      const auto kind = values.find(std::string(bound.kind_key));
      return (key == bound.key || key.starts_with(std::string(bound.key) + ".")) && kind != values.end() &&
             std::ranges::find(bound.kinds, kind->second) == bound.kinds.end();
    });
  };
  for (const auto& [key, value] : all)
    if (key.starts_with(section + ".") && is_read(key)) settings.emplace_back(key.substr(section.size() + 1), value);
  return settings;
}

}  // namespace tenfold
