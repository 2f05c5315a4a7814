#include "db/inner_loop_report.h"

#include <cmath>

#include "db/text_table.h"

namespace tenfold {
namespace {

std::string slope_words(const BlockSlope& slope) {
  if (!slope.why_not.empty()) return slope.why_not;
  return slope.rises() ? "rises" : slope.falls() ? "falls" : "level within 2 standard errors";
}

ReportTable curves_table(const std::string& name, const InnerLoopStatistics& s) {
  ReportTable table{"curves", name, "layer", {"curve", "mean", "sd", "smallest", "largest"}, {}};
  for (const auto& [curve, values] : {std::pair{"l0", &s.l0}, {"lprev", &s.lprev}, {"lafter", &s.lafter}})
    table.rows.push_back({curve, Cell::number(values->mean, 6), Cell::number(values->sd, 6),
                          Cell::number(values->smallest, 6), Cell::number(values->largest, 6)});
  return table;
}

ReportTable trends_table(const std::string& name, const InnerLoopStatistics& s) {
  ReportTable table{"trends",
                    name + ", along the stream",
                    "layer",
                    {"of", "last tenth - first tenth", "slope per 1,000 positions", "std. error", "slope"},
                    {}};
  for (const auto& [what, trend] :
       {std::pair{"l0", &s.l0_trend}, {"lprev", &s.lprev_trend}, {"lprev - l0", &s.context_trend}})
    table.rows.push_back({what, Cell::signed_number(trend->change, 6),
                          Cell::signed_number(1000 * trend->slope.value, 6),
                          Cell::number(1000 * trend->slope.standard_error, 6), slope_words(trend->slope)});
  return table;
}

ReportTable learning_table(const std::string& name, const InnerLoopLayer& layer, const InnerLoopStatistics& s) {
  ReportTable table{"learning", name + ", what the updates bring", "layer", {"quantity", "value"}, {}};
  const auto add = [&](const char* what, Cell value) { table.rows.push_back({what, std::move(value)}); };
  add("positions out of order", s.violations);
  add("their share %", Cell::number(100 * s.violation_share(), 2));
  add("  lafter > lprev", s.after_above_prev);
  add("  lprev > l0", s.prev_above_l0);
  add("per-step improvement, mean(lprev - lafter)", Cell::number(s.step_improvement, 6));
  add("cumulative benefit, mean(l0 - lafter)", Cell::number(s.cumulative_benefit, 6));
  add("relative benefit at the first position %", Cell::number(100 * s.first_relative_benefit, 2));
  add("relative benefit at the last position %", Cell::number(100 * s.last_relative_benefit, 2));
  const auto add_known = [&](const char* what, double value) {
    if (!std::isnan(value)) add(what, Cell::number(value, 6));
  };
  add_known("gate, mean tanh(alpha)", std::isnan(layer.gate_mean) ? layer.gate_mean_abs : layer.gate_mean);
  add_known("gate, smallest", layer.gate_min);
  add_known("gate, largest", layer.gate_max);
  add_known("gate, initial", layer.gate_initial);
  add_known("|W_t - W_0| after the first mini-batch", layer.movement_start);
  add_known("|W_t - W_0| at the end", layer.movement_end);
  add_known("state lost between calls, of |W_0|", layer.carry_gap);
  add_known("KL of the logits without the layer, nats", layer.kl_without);
  return table;
}

std::string covered(const InnerLoopSubject& subject, const InnerLoopStatistics& s) {
  std::string text = "Positions covered: " + std::to_string(s.positions);
  if (subject.model.max_positions > 0) text += " / " + std::to_string(subject.model.max_positions);
  if (s.positions > 0) text += ", from " + std::to_string(s.first_position) + " to " + std::to_string(s.last_position);
  if (s.not_finite > 0) text += "; not finite at " + std::to_string(s.not_finite);
  return text + ".";
}

// What could not be judged for want of data.
std::vector<std::string> unknown(const InnerLoopSubject& subject, const InnerLoopLayer& layer) {
  std::vector<std::string> notes;
  if (layer.reset_each_step)
    notes.push_back(
        "The fast weights of this TTT-RNN start anew at each time step, so lprev is l0 by construction: the "
        "diagnoses of context and of a carried state do not apply.");
  if (layer.carries && std::isnan(layer.carry_gap))
    notes.push_back(
        "Whether the state is carried between calls was not measured here; tenfold diagnose --checkpoint "
        "runs the model and measures it.");
  if (std::isnan(subject.model.nll_without_ttt) && subject.model.position_loss.empty())
    notes.push_back("Whether the model's own loss improves with the inner loss was not measured.");
  return notes;
}

ReportSection layer_section(const InnerLoopSubject& subject, const InnerLoopLayer& layer, const std::string& name,
                            const LayerDiagnosis& diagnosis) {
  ReportSection section{name + (layer.kind.empty() ? "" : " (" + printable(layer.kind) + ")"), {}, {}, {}};
  section.sentences.push_back(covered(subject, diagnosis.statistics));
  if (diagnosis.statistics.positions > 0)
    section.tables = {curves_table(name, diagnosis.statistics), learning_table(name, layer, diagnosis.statistics),
                      trends_table(name, diagnosis.statistics)};
  else if (!std::isnan(layer.gate_mean) || !std::isnan(layer.gate_mean_abs))
    section.tables = {learning_table(name, layer, diagnosis.statistics)};
  section.notes = unknown(subject, layer);
  ReportTable found{"diagnoses", name + ", diagnosis", "layer", {"severity", "diagnosis"}, {}};
  for (const Diagnosis& one : diagnosis.found) {
    found.rows.push_back({to_string(one.severity), one.name});
    std::string causes;
    for (const std::string& cause : one.causes) causes += (causes.empty() ? "" : "; ") + cause;
    section.findings.push_back({std::string(to_string(one.severity)) + " " + one.name + ": " + one.finding,
                                "Likely causes: " + causes + ".", one.yaml});
  }
  if (!found.rows.empty()) section.tables.push_back(std::move(found));
  if (diagnosis.found.empty()) section.sentences.push_back("Diagnosis: nothing wrong was found.");
  return section;
}

void add_model(const InnerLoopSubject& subject, ReportDocument& document) {
  const InnerLoopModel& model = subject.model;
  if (std::isnan(model.nll) && model.codebook_shares.empty() && model.position_loss.empty()) return;
  ReportSection section{"The model's own loss" + (subject.name.empty() ? "" : ", " + subject.name), {}, {}, {}};
  ReportTable table{"model", subject.name, "subject", {"quantity", "value"}, {}};
  const auto add = [&](const std::string& what, double value, int digits) {
    if (!std::isnan(value)) table.rows.push_back({what, Cell::number(value, digits)});
  };
  add("loss per position, nats", model.nll, 6);
  add("the same without TTT layers", model.nll_without_ttt, 6);
  add("KL of the logits without TTT layers, nats", model.kl_without_ttt, 6);
  if (!model.position_loss.empty()) {
    std::vector<double> x(model.position_loss.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i);
    const BlockSlope slope = block_slope(x, model.position_loss);
    add("position loss, slope per 1,000 positions", 1000 * slope.value, 6);
    add("position loss, its std. error", 1000 * slope.standard_error, 6);
    if (!slope.why_not.empty()) section.notes.push_back("No slope of the position loss: " + slope.why_not + ".");
  }
  for (std::size_t i = 0; i < model.codebook_shares.size(); ++i)
    add("share of codebook " + std::to_string(i) + " in the weighted loss %", 100 * model.codebook_shares[i], 2);
  section.tables.push_back(std::move(table));
  if (!model.token_classes.empty()) {
    ReportTable classes{"token_classes",
                        subject.name + (subject.name.empty() ? "" : ", ") + "loss by kind of token",
                        "subject",
                        {"tokens", "share of the tokens %", "share of the loss %", "mean loss, nats"},
                        {}};
    for (const InnerLoopModel::Tokens& tokens : model.token_classes)
      classes.rows.push_back({tokens.name, Cell::number(100 * tokens.share, 2),
                              Cell::number(100 * tokens.loss_share, 2), Cell::number(tokens.loss, 4)});
    section.tables.push_back(std::move(classes));
  }
  document.sections.push_back(std::move(section));
}

}  // namespace

std::string layer_name(const InnerLoopLayer& layer) {
  return layer.layer < 0 ? "all layers" : "layer " + std::to_string(layer.layer);
}

ReportDocument inner_loop_report(const std::string& title, std::span<const InnerLoopSubject> subjects) {
  ReportDocument document;
  document.title = title;
  for (const InnerLoopSubject& subject : subjects) {
    const std::string prefix = subject.name.empty() ? "" : subject.name + ", ";
    for (const std::string& sentence : subject.sentences)
      document.sentences.push_back(subject.name.empty() ? sentence : subject.name + ". " + sentence);
    for (const InnerLoopLayer& layer : subject.layers) {
      const LayerDiagnosis diagnosis = diagnose_layer(layer, subject.model);
      const std::string name = prefix + layer_name(layer);
      std::string found;
      for (const Diagnosis& one : diagnosis.found)
        found += (found.empty() ? "" : ", ") + one.name + (one.severity == Severity::warning ? " (warning)" : "");
      document.sentences.push_back(name + ": " + (found.empty() ? "nothing wrong was found" : found) + ".");
      document.sections.push_back(layer_section(subject, layer, name, diagnosis));
    }
    add_model(subject, document);
  }
  return document;
}

}  // namespace tenfold
