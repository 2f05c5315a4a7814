#include "db/report_experiment.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "db/experiment_recommendations.h"
#include "db/experiment_report_data.h"
#include "db/reader.h"
#include "db/schema.h"
#include "db/statistics.h"
#include "db/text_table.h"

namespace tenfold {
namespace {

using All = std::vector<MeasuredConfiguration>;
using Settings = std::vector<std::pair<std::string, std::string>>;

std::string label_of(const MeasuredConfiguration& measured) { return printable(measured.configuration.label); }

// Keys of a section: those with one value for all configurations once, the others by configuration.
void add_settings(const All& all, const std::string& section, const std::vector<std::string>& without,
                  ReportSection& report) {
  std::vector<std::string> keys;
  std::vector<std::map<std::string, std::string>> values;
  for (const MeasuredConfiguration& measured : all) {
    auto& of = values.emplace_back();
    for (const auto& [key, value] : settings_of(measured.specification, section)) {
      if (std::any_of(without.begin(), without.end(), [&](const std::string& w) { return key.starts_with(w); }))
        continue;
      of[key] = value;
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  ReportTable same{"settings", "", "", {"setting", "value"}, {}};
  ReportTable varied{"varied_settings", "By configuration", "", {"configuration", "setting", "value"}, {}};
  for (const std::string& key : keys) {
    const bool one = std::all_of(values.begin(), values.end(),
                                 [&](auto& of) { return of.contains(key) && of.at(key) == values.front()[key]; });
    if (one) {
      same.rows.push_back({section + "." + key, printable(values.front()[key])});
      continue;
    }
    for (std::size_t i = 0; i < all.size(); ++i)
      if (values[i].contains(key))
        varied.rows.push_back({label_of(all[i]), section + "." + key, printable(values[i][key])});
  }
  report.tables.push_back(std::move(same));
  report.tables.push_back(std::move(varied));
}

ReportSection inner_loop_section(const All& all) {
  ReportSection section{"2. TTT configuration", {}, {}, {}};
  All with_layers;
  for (const MeasuredConfiguration& measured : all) {
    const Settings model = settings_of(measured.specification, "model");
    const auto kind = std::find_if(model.begin(), model.end(), [](const auto& s) { return s.first == "kind"; });
    if (kind != model.end() &&
        (kind->second == "ttt_rnn" || kind->second == "ttt_lm" || kind->second == "transformer_lm"))
      with_layers.push_back(measured);
  }
  if (with_layers.empty())
    section.sentences.push_back("The models have no TTT layers; what follows is adaptation at test time.");
  else
    add_settings(with_layers, "model.ttt", {}, section);
  ReportSection adaptation{"", {}, {}, {}};
  add_settings(all, "ttt", {}, adaptation);
  adaptation.tables[0].name = "adaptation";
  adaptation.tables[0].title = "Adaptation at test time";
  adaptation.tables[1].name = "varied_adaptation";
  for (ReportTable& table : adaptation.tables) section.tables.push_back(std::move(table));
  return section;
}

std::string counts_text(const std::vector<double>& counts) {
  if (counts.empty()) return "-";
  const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
  if (std::isnan(*least)) return "-";
  const std::string average = short_number(mean(counts));
  return *least == *most ? average : average + " (" + short_number(*least) + " to " + short_number(*most) + ")";
}

ReportSection dataset_section(const All& all) {
  ReportSection section{"3. Dataset", {}, {}, {}};
  ReportTable table{"dataset", "", "", {"configuration", "quantity", "value"}, {}};
  std::vector<std::vector<std::pair<std::string, Cell>>> shown;
  std::vector<std::string> texts;
  for (const MeasuredConfiguration& measured : all) {
    const DatasetFacts& data = measured.data;
    std::vector<std::pair<std::string, Cell>> rows = {
        {"items", data.samples},
        {"training items, mean over folds", counts_text(data.train_n)},
        {"validation items, mean over folds", counts_text(data.validation_n)},
        {"held-out items, mean over folds", counts_text(data.test_n)},
        {"features", data.features},
        {"shape", printable(data.shape)},
        {data.kind == "tokens" ? "vocabulary" : "classes", data.classes}};
    if (!data.kind.empty()) {
      rows.insert(rows.begin(), {"kind", data.kind + ", a label for each " + data.label_kind});
      if (data.kind != "fixed" && data.samples > 0) {
        rows.emplace_back("mean length, steps",
                          Cell::number(static_cast<double>(data.steps) / static_cast<double>(data.samples), 1));
        rows.emplace_back("shortest, steps", data.shortest);
        rows.emplace_back("longest, steps", data.longest);
      }
      if (data.kind != "tokens") {
        rows.emplace_back("smallest value", Cell::number(data.smallest_value, 4));
        rows.emplace_back("largest value", Cell::number(data.largest_value, 4));
      }
    }
    std::string text;
    for (const auto& [name, cell] : rows) text += name + "=" + cell.exact() + ";";
    texts.push_back(text);
    shown.push_back(std::move(rows));
  }
  const bool one = std::all_of(texts.begin(), texts.end(), [&](const auto& text) { return text == texts.front(); });
  for (std::size_t i = 0; i < (one ? 1 : all.size()); ++i)
    for (auto& [name, cell] : shown[i]) table.rows.push_back({one ? "all" : label_of(all[i]), name, std::move(cell)});
  section.tables.push_back(std::move(table));
  return section;
}

ReportSection model_section(const All& all) {
  ReportSection section{"4. Model", {}, {}, {}};
  ReportTable table{"model", "", "", {"configuration", "parameters", "features", "parameters per feature"}, {}};
  for (const MeasuredConfiguration& measured : all) {
    if (measured.parameters == 0) continue;
    const auto features = static_cast<double>(std::max<std::int64_t>(1, measured.data.features));
    table.rows.push_back({label_of(measured), measured.parameters, measured.data.features,
                          Cell::number(static_cast<double>(measured.parameters) / features, 1)});
  }
  if (table.rows.size() < all.size())
    section.notes.push_back(
        "The number of parameters is not in the store for every configuration: an older tenfold ran "
        "them, or they were imported. tenfold run on the file adds it, computing nothing again.");
  section.tables.push_back(std::move(table));
  return section;
}

ReportSection measures_section(const All& all, Topic topic, const std::string& heading, const std::string& name) {
  ReportSection section{heading, {}, {}, {}};
  for (const MeasuredConfiguration& measured : all) {
    ReportTable table{
        name, label_of(measured), "configuration", {"quantity", "mean", "sd", "least", "most", "folds"}, {}};
    for (const Measure& measure : measured.measures) {
      if (measure.topic != topic) continue;
      const auto [least, most] = std::minmax_element(measure.folds.begin(), measure.folds.end());
      table.rows.push_back({measure.name, Cell::number(mean(measure.folds), measure.digits),
                            Cell::number(sample_sd(measure.folds), measure.digits),
                            Cell::number(*least, measure.digits), Cell::number(*most, measure.digits),
                            static_cast<std::int64_t>(measure.folds.size())});
    }
    section.tables.push_back(std::move(table));
  }
  return section;
}

ReportSection insights_section(const All& all) {
  ReportSection section = measures_section(all, Topic::insights, "9. Insights", "insights");
  ReportTable table{"inner_loop", "Inner loop", "", {"configuration", "inner iterations", "inner rate"}, {}};
  for (const MeasuredConfiguration& measured : all) {
    std::map<std::string, std::string> ttt;
    for (const auto& [key, value] : settings_of(measured.specification, "model.ttt")) ttt[key] = value;
    if (!ttt.contains("base_lr") || ttt["base_lr"] == "none") continue;
    table.rows.push_back({label_of(measured), ttt["inner_iterations"], ttt["base_lr"]});
  }
  section.tables.push_back(std::move(table));
  section.notes.push_back(
      "lr reduction factor: the highest rate over the last one. First to best: of the mean loss of an epoch. The fall "
      "over the last fifth is of the epochs' mean loss, and given from 5 epochs on.");
  return section;
}

ReportSection recommendations_section(const All& all) {
  ReportSection section{"10. Recommendations", {}, {}, {}};
  for (const MeasuredConfiguration& measured : all)
    for (ReportFinding& finding : recommendations(measured)) {
      finding.statement = label_of(measured) + ": " + finding.statement;
      section.findings.push_back(std::move(finding));
    }
  if (section.findings.empty()) section.sentences.push_back("None: no condition that this report watches was met.");
  return section;
}

std::vector<std::string> summary(const All& all) {
  std::vector<std::string> sentences;
  for (const MeasuredConfiguration& measured : all) {
    std::string text =
        label_of(measured) + ": " + std::to_string(measured.folds) + (measured.folds == 1 ? " fold" : " folds");
    for (const char* name :
         {"held-out, trained: accuracy %", "held-out, adapted: accuracy %", "held-out, trained: nll"})
      if (const Measure* measure = measured.find(name)) {
        text += "; " + measure->name + " " + fixed_number(mean(measure->folds), measure->digits);
        if (measure->folds.size() > 1) text += " (sd " + fixed_number(sample_sd(measure->folds), measure->digits) + ")";
      }
    text += ".";
    if (measured.left_out > 0) text += " Left out: " + std::to_string(measured.left_out) + " not done.";
    sentences.push_back(std::move(text));
  }
  return sentences;
}

}  // namespace

std::string experiment_report(const std::filesystem::path& db, const std::string& name, const std::string& format) {
  check_report_format(format);
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  check_is_current(connection, "`tenfold report --kind experiment`");
  connection.execute("BEGIN");
  const ExperimentInfo experiment = select_experiment(connection, name);
  if (experiment.imported)
    throw Error(ErrorKind::config,
                "'" + printable(experiment.name) +
                    "' holds imported losses, which have no training to report; see --kind ttt-loss");
  All all;
  for (const ConfigurationInfo& configuration : experiment.configurations) {
    all.push_back(measure_configuration(connection, configuration));
    if (all.back().folds == 0) all.pop_back();
  }
  if (all.empty())
    throw Error(ErrorKind::config, "'" + printable(name) + "' has no finished trial yet; see tenfold status");

  ReportDocument document;
  document.title = "Experiment " + printable(name);
  document.sentences = summary(all);
  ReportSection configuration{"1. Configuration", {}, {}, {}};
  add_settings(all, "model", {"ttt."}, configuration);
  ReportSection training{"5. Training configuration", {}, {}, {}};
  add_settings(all, "train", {}, training);
  ReportSection performance = measures_section(all, Topic::performance, "6. Performance", "performance");
  performance.notes.push_back("Train loss: mean over an epoch's batches, while it learns. sd: over folds (n - 1).");
  ReportSection dynamics = measures_section(all, Topic::dynamics, "7. Training dynamics", "dynamics");
  dynamics.notes.push_back(
      "Gradient norms are before clipping, over all updates. The coefficient of variation is sd/mean of the batch "
      "losses "
      "within an epoch, averaged over epochs. Training time is an array's, shared among its members.");
  ReportSection overfitting = measures_section(all, Topic::overfitting, "8. Overfitting", "overfitting");
  for (const MeasuredConfiguration& measured : all)
    overfitting.sentences.push_back(label_of(measured) + ": " + overfitting_status(measured) + ".");
  document.sections = {std::move(configuration),    inner_loop_section(all), dataset_section(all),
                       model_section(all),          std::move(training),     std::move(performance),
                       std::move(dynamics),         std::move(overfitting),  insights_section(all),
                       recommendations_section(all)};
  return render(document, format);
}

}  // namespace tenfold
