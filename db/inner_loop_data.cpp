#include "db/inner_loop_data.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "db/reader.h"
#include "db/schema.h"
#include "db/selection.h"
#include "db/text_table.h"

namespace tenfold {
namespace {

using nlohmann::json;

// The store may have been edited by hand: what is not as expected is left out.
json object_at(const json& parent, const char* key) {
  if (!parent.is_object()) return json::object();
  const auto found = parent.find(key);
  return found != parent.end() && found->is_object() ? *found : json::object();
}

double number_at(const json& parent, const char* key) {
  const auto found = parent.find(key);
  return found != parent.end() && found->is_number() ? found->get<double>() : InnerLoopModel::kUnknown;
}

std::int64_t integer_at(const json& parent, const char* key, std::int64_t otherwise) {
  const auto found = parent.find(key);
  return found != parent.end() && found->is_number_integer() ? found->get<std::int64_t>() : otherwise;
}

std::string text_at(const json& parent, const char* key) {
  const auto found = parent.find(key);
  return found != parent.end() && found->is_string() ? found->get<std::string>() : "";
}

bool truth_at(const json& parent, const char* key) {
  const auto found = parent.find(key);
  return found != parent.end() && found->is_boolean() && found->get<bool>();
}

bool has_ttt_layers(const json& model) {
  const std::string kind = text_at(model, "kind");
  if (kind == "ttt_rnn" || kind == "ttt_lm") return true;
  if (kind != "transformer_lm") return false;
  const json ttt = object_at(model, "ttt");
  const auto layers = ttt.find("layers");
  return layers != ttt.end() && *layers != json::array({"none"}) && *layers != json("none");
}

struct ConfigurationRow {
  std::string specification;
  std::int64_t longest = 0;  // sample of its dataset, in steps; 0: unknown
};

ConfigurationRow configuration_row(Connection& connection, std::int64_t configuration) {
  Statement select(
      connection,
      "SELECT c.specification, (SELECT max(d.longest) FROM trial t JOIN fold f ON f.id = t.split "
      "JOIN dataset d ON d.id = f.dataset WHERE t.configuration = c.id) FROM configuration c WHERE c.id = ?1");
  select.bind(1, configuration).next();
  return {select.text(0), select.integer(1)};
}

// The phase that a diagnosis looks at: the most finished one that has rows.
std::optional<std::string> best_phase(Connection& connection, const std::vector<std::int64_t>& trials,
                                      std::optional<std::int64_t> step) {
  Statement exists(connection,
                   "SELECT 1 FROM inner_loss WHERE trial = ?1 AND phase = ?2 AND (?3 IS NULL OR step = ?3) LIMIT 1");
  for (const char* phase : {"after", "online", "before", "validation", "train"})
    for (const std::int64_t trial : trials) {
      exists.bind(1, trial).bind(2, std::string_view(phase)).bind(3, step);
      const bool found = exists.next();
      exists.reset();
      if (found) return phase;
    }
  return std::nullopt;
}

class Loader {
 public:
  Loader(Connection& connection, const InnerLoopSelection& selection)
      : connection_(connection), selection_(selection) {}

  InnerLoopSubject subject(const ConfigurationInfo& configuration, const std::vector<std::int64_t>& trials,
                           const std::string& name) {
    const ConfigurationRow row = configuration_row(connection_, configuration.id);
    InnerLoopSubject subject;
    subject.name = name;
    subject.model = inner_loop_model(row.specification);
    if (row.longest > 0)
      subject.model.max_positions = std::min(row.longest, std::max<std::int64_t>(1, subject.model.max_positions));
    subject.model.stream_length = row.longest;
    const InnerLoopLayer common = inner_loop_layer(row.specification);
    const auto phase = best_phase(connection_, trials, selection_.step);
    std::map<int, InnerLoopLayer> layers;
    std::set<std::int64_t> steps;
    if (phase) {
      for (const auto& [layer, curves] : curves_by_layer(trials, *phase, steps)) {
        layers.emplace(layer, common).first->second.curves = mean_curves(curves);
      }
      add_position_loss(subject.model, trials, *phase);
    }
    // Gates are recorded while training, whose steps are not those of adaptation.
    const bool training = phase == "train" || phase == "validation";
    add_gates(layers, common, trials, training ? selection_.step : std::nullopt);
    if (layers.empty()) layers.emplace(-1, common);
    for (auto& [number, layer] : layers) {
      layer.layer = number;
      subject.layers.push_back(std::move(layer));
    }
    std::string from = std::to_string(trials.size()) + (trials.size() == 1 ? " trial" : " trials, averaged");
    if (phase) from += "; phase '" + *phase + "', step " + std::to_string(*steps.rbegin());
    if (steps.size() > 1) from += " (of some trials " + std::to_string(*steps.begin()) + ")";
    subject.sentences.push_back("From the store: " + from + ".");
    return subject;
  }

 private:
  std::map<int, std::vector<InnerLossCurves>> curves_by_layer(const std::vector<std::int64_t>& trials,
                                                              const std::string& phase, std::set<std::int64_t>& steps) {
    Statement last(connection_, "SELECT max(step) FROM inner_loss WHERE trial = ?1 AND phase = ?2");
    Statement select(connection_,
                     "SELECT layer, position, l0, lprev, lafter FROM inner_loss WHERE trial = ?1 AND phase = ?2 AND "
                     "step = ?3 ORDER BY layer, position");
    std::map<int, std::vector<InnerLossCurves>> by_layer;
    for (const std::int64_t trial : trials) {
      last.bind(1, trial).bind(2, phase).next();
      const bool none = last.is_null(0);
      const std::int64_t step = selection_.step.value_or(last.integer(0));
      last.reset();
      if (none) continue;
      std::optional<int> open;
      select.bind(1, trial).bind(2, phase).bind(3, step);
      while (select.next()) {
        const int layer = static_cast<int>(select.integer(0));
        std::vector<InnerLossCurves>& of_layer = by_layer[layer];
        if (open != layer) of_layer.emplace_back();
        open = layer;
        InnerLossCurves& curves = of_layer.back();
        curves.position.push_back(select.integer(1));
        curves.l0.push_back(select.real(2));
        curves.lprev.push_back(select.real(3));
        curves.lafter.push_back(select.real(4));
        steps.insert(step);
      }
    }
    return by_layer;
  }

  // Of the last step at which each layer's gate was recorded.
  void add_gates(std::map<int, InnerLoopLayer>& layers, const InnerLoopLayer& common,
                 const std::vector<std::int64_t>& trials, std::optional<std::int64_t> until) {
    Statement select(connection_,
                     "SELECT layer, avg(mean_tanh), min(min_tanh), max(max_tanh), max(step) FROM gate g "
                     "WHERE trial = ?1 AND stage = 'training' AND step = (SELECT max(step) FROM gate o WHERE o.trial = "
                     "g.trial AND o.stage = g.stage AND (?2 IS NULL OR o.step <= ?2)) GROUP BY layer");
    std::map<int, int> seen;
    for (const std::int64_t trial : trials) {
      select.bind(1, trial).bind(2, until);
      while (select.next()) {
        const int number = static_cast<int>(select.integer(0));
        InnerLoopLayer& layer = layers.emplace(number, common).first->second;
        const int before = seen[number]++;
        if (before == 0) {
          layer.gate_mean = select.real(1);
          layer.gate_min = select.real(2);
          layer.gate_max = select.real(3);
        } else {
          layer.gate_mean += (select.real(1) - layer.gate_mean) / (before + 1);
          layer.gate_min = std::min(layer.gate_min, select.real(2));
          layer.gate_max = std::max(layer.gate_max, select.real(3));
        }
        layer.trained |= select.integer(4) > 0;
      }
    }
  }

  // Weighted over codebooks: 100 for the first one, 1 for the others.
  void add_position_loss(InnerLoopModel& model, const std::vector<std::int64_t>& trials, const std::string& phase) {
    Statement select(
        connection_,
        "SELECT position, codebook, loss FROM position_loss p WHERE trial = ?1 AND phase = ?2 AND step = "
        "coalesce(?3, (SELECT max(step) FROM position_loss o WHERE o.trial = p.trial AND o.phase = p.phase))");
    constexpr double kFirstCodebook = 100;
    std::map<std::int64_t, std::pair<double, double>> at;  // position -> sum, weight
    std::map<std::int64_t, double> by_codebook;
    double whole = 0;
    for (const std::int64_t trial : trials) {
      select.bind(1, trial).bind(2, phase).bind(3, selection_.step);
      while (select.next()) {
        const double loss = select.real(2);
        if (!std::isfinite(loss)) continue;
        const double weight = select.integer(1) == 0 ? kFirstCodebook : 1;
        auto& [sum, weights] = at[select.integer(0)];
        sum += weight * loss;
        weights += weight;
        by_codebook[select.integer(1)] += weight * loss;
        whole += weight * loss;
      }
    }
    for (const auto& [position, sums] : at) model.position_loss.push_back(sums.first / sums.second);
    if (by_codebook.size() > 1 && whole > 0)
      for (const auto& [codebook, sum] : by_codebook) model.codebook_shares.push_back(sum / whole);
  }

  Connection& connection_;
  const InnerLoopSelection& selection_;
};

}  // namespace

InnerLoopModel inner_loop_model(const std::string& specification) {
  const json spec = json::parse(readable_json(specification), nullptr, false);
  const json model = object_at(spec, "model"), ttt = object_at(model, "ttt");
  const json recording = object_at(object_at(spec, "diagnostics"), "inner_loss");
  InnerLoopModel result;
  result.kind = text_at(model, "kind");
  result.layers = static_cast<int>(integer_at(model, "layers", 0));
  result.max_positions = integer_at(recording, "max_positions", 0);
  result.base_lr = number_at(ttt, "base_lr");
  result.gate_init = number_at(ttt, "gate_init");
  result.inner_clip_norm = number_at(ttt, "inner_clip_norm");
  return result;
}

InnerLoopLayer inner_loop_layer(const std::string& specification) {
  const json spec = json::parse(readable_json(specification), nullptr, false);
  const json model = object_at(spec, "model"), ttt = object_at(model, "ttt");
  const bool rnn = text_at(model, "kind") == "ttt_rnn";
  InnerLoopLayer layer;
  layer.kind = rnn ? "ttt_rnn" : text_at(ttt, "kind");
  layer.carries = truth_at(ttt, "persistent");
  layer.reset_each_step = rnn && !layer.carries;
  const bool window = text_at(ttt, "inner_window") == "window";
  layer.mini_batch_size = !rnn     ? integer_at(ttt, "mini_batch_size", 1)
                          : window ? integer_at(ttt, "sequence_length", 1)
                                   : 1;
  layer.mini_batch_size = std::max<std::int64_t>(1, layer.mini_batch_size);
  if (text_at(model, "kind") == "transformer_lm") layer.gate_initial = std::tanh(number_at(ttt, "gate_init"));
  return layer;
}

std::vector<InnerLoopSubject> load_inner_loops(const std::filesystem::path& db, const InnerLoopSelection& selection) {
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  check_is_current(connection, "`tenfold diagnose`");
  connection.execute("BEGIN");
  const ExperimentInfo experiment = select_experiment(connection, selection.name);
  Loader loader(connection, selection);
  std::vector<InnerLoopSubject> subjects;
  bool trial_found = false, any_layers = false;
  for (const ConfigurationInfo& configuration : experiment.configurations) {
    std::vector<std::int64_t> trials;
    std::string name = printable(configuration.label);
    for (const TrialInfo& trial : trials_of(connection, configuration.id)) {
      if (selection.trial ? trial.id != *selection.trial : trial.status != "done") continue;
      trials.push_back(trial.id);
      if (!selection.trial) continue;
      trial_found = true;
      name = "trial " + std::to_string(trial.id) + " (" + name + ", repeat " + std::to_string(trial.repeat) +
             ", fold " + std::to_string(trial.fold) + ")";
    }
    const std::string specification = configuration_row(connection, configuration.id).specification;
    const bool layers = has_ttt_layers(object_at(json::parse(readable_json(specification), nullptr, false), "model"));
    if (selection.trial && trials.empty()) continue;
    any_layers |= layers;
    if (!layers || trials.empty()) continue;
    subjects.push_back(loader.subject(configuration, trials, name));
  }
  const std::string of = "'" + printable(selection.name) + "'";
  if (selection.trial && !trial_found)
    throw Error(ErrorKind::config, of + " has no trial " + std::to_string(*selection.trial) +
                                       "; tenfold query \"SELECT trial, label, fold FROM trial_summary\" lists them");
  if (!any_layers)
    throw Error(ErrorKind::config, of + " has no model with TTT layers to diagnose: model.kind ttt_rnn or ttt_lm, or "
                                        "transformer_lm with model.ttt.layers");
  if (subjects.empty())
    throw Error(ErrorKind::config, of + " has no finished trial with TTT layers yet; see tenfold status");
  const bool nothing = std::all_of(subjects.begin(), subjects.end(), [](const InnerLoopSubject& subject) {
    return std::all_of(subject.layers.begin(), subject.layers.end(),
                       [](const InnerLoopLayer& layer) { return layer.curves.size() == 0; });
  });
  if (nothing && selection.step)
    throw Error(ErrorKind::config, of + " recorded no inner losses at step " + std::to_string(*selection.step));
  return subjects;
}

}  // namespace tenfold
