#include "tests/db/store_fixture.h"

#include <cstdlib>

#include "experiments/metric.h"

namespace tenfold {

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "tenfold-db-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

DatasetSummary synthetic_summary(const ExperimentSpec& spec) {
  DatasetSummary summary;
  summary.fingerprint = sha256("synthetic " + std::to_string(spec.dataset.seed));
  summary.samples = 90;
  summary.sample_shape = {5};
  summary.classes = 3;
  for (int repeat = 0; repeat < spec.folds.repeats; ++repeat)
    for (int fold = 0; fold < spec.folds.k; ++fold) {
      SplitSummary split;
      split.repeat = repeat;
      split.fold = fold;
      split.hash = sha256("split " + std::to_string(spec.folds.seed) + " " + std::to_string(repeat) + " " +
                          std::to_string(fold) + " of " + std::to_string(spec.folds.k));
      split.test_n = 90 / spec.folds.k;
      split.train_n = 90 - split.test_n;
      summary.splits.push_back(split);
    }
  return summary;
}

SmallExperiment::SmallExperiment(const std::string& sweep, const std::string& name, const std::string& more)
    : experiment(Experiment::parse("name: " + name +
                                       "\n"
                                       "dataset: {kind: synthetic, samples: 90, features: 5, classes: 3}\n"
                                       "folds: {kind: stratified, k: 3}\n"
                                       "model: {kind: mlp, hidden: [4]}\n"
                                       "train: {epochs: 2, batch_size: 10}\n"
                                       "ttt: {method: entropy_diversity, steps: 3, query_size: 0, batch_size: 4}\n"
                                       "metrics: [accuracy, nll]\n" +
                                       more + "sweep: {" + sweep + "}\n",
                                   "small.yaml")),
      plan(make_plan(experiment, synthetic_summary)) {}

TttStepRow ttt_row(std::int64_t step, double entropy, double diversity, double weight) {
  TttStepRow row{};
  row.step = step;
  row.entropy = entropy;
  row.diversity = diversity;
  row.diversity_weight = weight;
  row.total = entropy + weight * diversity;
  row.class_entropy = 1 - diversity + 0.01;
  row.classes_predicted = 3;
  row.max_class_share = 0.4;
  row.grad_norm = step == 0 ? std::numeric_limits<double>::quiet_NaN() : 1.5;
  row.lr = 1e-3;
  row.wall_s = 0.001;
  return row;
}

TrainStepRow train_row(std::int64_t step, double loss) { return {step, step / 6, loss, 1e-3, 2.0, 0.0005}; }

EvaluationRow evaluation_row(Phase phase, std::int64_t step, const std::string& metric, double value) {
  EvaluationRow row{};
  row.step = step;
  row.value = value;
  row.metric = metric_index(metric);
  row.phase = phase;
  row.hits = metric == "accuracy" ? static_cast<std::int64_t>(value * 100 + 0.5) : -1;
  row.total = 100;
  return row;
}

std::vector<std::string> rows_of(const std::filesystem::path& db, const std::string& sql) {
  Connection connection(db, Connection::Access::read_only);
  Statement select(connection, sql);
  std::vector<std::string> rows;
  while (select.next()) {
    std::string row;
    for (int i = 0; i < sqlite3_column_count(select.handle()); ++i) row += (i == 0 ? "" : "|") + select.text(i);
    rows.push_back(row);
  }
  return rows;
}

std::int64_t integer_of(const std::filesystem::path& db, const std::string& sql) {
  Connection connection(db, Connection::Access::read_only);
  return connection.integer(sql.c_str());
}

}  // namespace tenfold
