#include "experiments/experiment.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <system_error>
#include <unordered_map>

#include "experiments/contradictions.h"
#include "experiments/document.h"
#include "experiments/error.h"
#include "experiments/ignored_keys.h"
#include "experiments/problems.h"
#include "experiments/spec_access.h"
#include "experiments/sweep.h"

namespace tenfold {
namespace {

struct Override {
  std::string key;
  Node value;
};

// One of the two is the other, or a section around it.
bool related(std::string_view a, std::string_view b) {
  if (a.size() > b.size()) std::swap(a, b);
  return b.starts_with(a) && (a.size() == b.size() || b[a.size()] == '.');
}

std::string read_text(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) throw Error(ErrorKind::config, file.string() + ": there is no such file");
  if (std::filesystem::is_directory(status))
    throw Error(ErrorKind::config, file.string() + ": is a folder, not an experiment file");
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error(ErrorKind::config, file.string() + ": cannot be opened for reading");
  std::string text(kMaxYamlBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) throw Error(ErrorKind::config, file.string() + ": reading failed");
  text.resize(static_cast<std::size_t>(stream.gcount()));
  return text;  // parse_yaml refuses what is longer than the bound
}

// As written where that exists, else beside the experiment file: so an experiment runs from any folder.
void find_beside(const std::filesystem::path& folder, std::string& file) {
  if (file.empty() || std::filesystem::path(file).is_absolute()) return;
  std::error_code ignored;
  if (std::filesystem::exists(file, ignored)) return;
  const std::filesystem::path beside = folder / file;
  if (std::filesystem::exists(beside, ignored)) file = beside.string();
}

void find_files(const std::string& experiment_file, ExperimentSpec& spec) {
  DatasetSpec& dataset = spec.dataset;
  const std::filesystem::path folder = std::filesystem::path(experiment_file).parent_path();
  for (std::string* file : {&dataset.path, &dataset.labels, &dataset.groups, &dataset.tokenizer, &spec.model.checkpoint,
                            &spec.diagnostics.minimal_pairs})
    find_beside(folder, *file);
}

// What `key` stands for in the file, or null.
const Node* find_value(const Node& root, std::string_view key) {
  const Node* node = &root;
  while (node != nullptr && !key.empty()) {
    const std::size_t dot = key.find('.');
    node = node->is_map() ? node->find(key.substr(0, dot)) : nullptr;
    key = dot == std::string_view::npos ? std::string_view() : key.substr(dot + 1);
  }
  return node != nullptr && !node->is_null() ? node : nullptr;
}

std::string value_key(std::string_view key, std::string_view text) {
  std::string out(key);
  out += '\n';
  return out += text;
}

}  // namespace

struct Experiment::Sources {
  Problems problems;  // knows the names of sources
  Node root;
  std::vector<Override> overrides;
  ExperimentSpec unresolved;                     // the file and --set, without sweep and method defaults
  std::unordered_map<std::string, Node> values;  // of the sweep, by value_key

  Mark locate(const Configuration* configuration, std::string_view key) const;
  bool overridden(std::string_view key) const;  // by --set
  bool given(const Configuration& configuration, std::string_view key) const;
  void read_file(std::string_view text, const std::string& file_name);
  void read_overrides(const std::vector<std::string>& texts);
  void check_name(const std::string& file_name);
  void check_configurations(const Experiment& experiment);
  void check_ignored_keys(const std::vector<std::set<std::string>>& kinds);
};

Mark Experiment::Sources::locate(const Configuration* configuration, std::string_view key) const {
  if (configuration != nullptr)
    for (const auto& [swept, text] : configuration->parameters)
      if (related(swept, key)) return values.at(value_key(swept, text)).mark;
  for (auto it = overrides.rbegin(); it != overrides.rend(); ++it)
    if (related(it->key, key)) return it->value.mark;
  // As deep into the file as the key goes.
  Mark mark{0, 1, 1};
  const Node* node = &root;
  std::string_view rest = key;
  while (node->is_map() && !rest.empty()) {
    const std::size_t dot = rest.find('.');
    const std::string_view head = rest.substr(0, dot);
    rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
    const Node* found = nullptr;
    for (std::size_t i = 0; i < node->keys.size() && found == nullptr; ++i)
      if (node->keys[i].text == head) {
        found = &node->items[i];
        mark = found->is_scalar() || found->is_sequence() ? found->mark : node->keys[i].mark;
      }
    if (found == nullptr) break;
    node = found;
  }
  return mark;
}

bool Experiment::Sources::overridden(std::string_view key) const {
  return std::any_of(overrides.begin(), overrides.end(), [&](const Override& one) {
    const auto keys = plain_keys(one.key, one.value);
    return std::any_of(keys.begin(), keys.end(), [&](const std::string& k) { return related(k, key); });
  });
}

bool Experiment::Sources::given(const Configuration& configuration, std::string_view key) const {
  if (overridden(key) || find_value(root, key) != nullptr) return true;
  return std::any_of(configuration.parameters.begin(), configuration.parameters.end(), [&](const auto& parameter) {
    const auto keys = plain_keys(parameter.first, values.at(value_key(parameter.first, parameter.second)));
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  });
}

void Experiment::Sources::read_file(std::string_view text, const std::string& file_name) {
  const std::int32_t source = problems.add_source(file_name, true);
  root = parse_yaml(text, source, problems);
  if (root.is_null()) throw Error(ErrorKind::config, file_name + ": the file is empty: give at least dataset: digits");
  if (!root.is_map())
    throw Error(ErrorKind::config,
                problems.where(root.mark) + ": an experiment file holds sections such as dataset: digits");
  read_spec(root, unresolved, problems);
  const Node* train = root.find("train");
  if (train == nullptr) return;
  const Node* steps = train->find("steps");
  if (steps != nullptr && !steps->is_null() && train->find("epochs") != nullptr)
    problems.add(steps->mark, "train.steps and train.epochs are both given: keep one of them");
}

void Experiment::Sources::read_overrides(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    const std::int32_t source = problems.add_source("--set " + text, false);
    const Mark mark{source, 0, 0};
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      problems.add(mark, "wants key=value, such as ttt.lr=1e-4");
      continue;
    }
    const std::string key = text.substr(0, equals);
    try {
      Node value = parse_yaml(std::string_view(text).substr(equals + 1), source, problems);
      if (value.mark.line == 0) value.mark = mark;
      if (key == "sweep" || key.starts_with("sweep.")) {
        // The sweep of the file, with one of its entries (or all) replaced.
        auto entry =
            std::find_if(root.keys.begin(), root.keys.end(), [](const NodeKey& k) { return k.text == "sweep"; });
        if (entry == root.keys.end()) {
          root.keys.push_back({"sweep", mark});
          root.items.emplace_back();
          entry = std::prev(root.keys.end());
        }
        Node& sweep = root.items[static_cast<std::size_t>(entry - root.keys.begin())];
        if (key == "sweep") {
          sweep = std::move(value);
          continue;
        }
        if (!sweep.is_map()) {
          sweep = Node{};
          sweep.kind = Node::Kind::map;
          sweep.mark = mark;
        }
        const std::string inner = key.substr(6);
        bool replaced = false;
        for (std::size_t i = 0; i < sweep.keys.size(); ++i)
          if (sweep.keys[i].text == inner) {
            sweep.keys[i].mark = mark;
            sweep.items[i] = value;
            replaced = true;
          }
        if (!replaced) {
          sweep.keys.push_back({inner, mark});
          sweep.items.push_back(std::move(value));
        }
        continue;
      }
      if (!check_dotted_key(key, mark, problems)) continue;
      set_field(unresolved, key, value, problems);
      overrides.push_back({key, std::move(value)});
    } catch (const Error& error) {
      problems.add(mark, std::string(error.what()).substr(std::min(std::string(error.what()).size(), text.size() + 8)));
    }
  }
}

void Experiment::Sources::check_name(const std::string& file_name) {
  const bool given = !unresolved.name.empty();
  if (!given) unresolved.name = std::filesystem::path(file_name).stem().string();
  if (usable_name(unresolved.name)) return;
  const std::string rule = " of letters, digits, '.', '_' and '-' (at most 100, beginning with a letter, digit or '_')";
  if (given)
    problems.add(locate(nullptr, "name"), "name is " + quote(unresolved.name) + "; allowed: a name" + rule);
  else
    problems.add({0, 1, 1}, "name is missing and the file's own name cannot stand for it: give a name" + rule);
}

void Experiment::Sources::check_configurations(const Experiment& experiment) {
  struct Finding {
    std::size_t count = 0;
    std::string label;
  };
  std::map<std::pair<Mark, std::string>, Finding> findings;
  std::vector<std::set<std::string>> kinds(kind_bound_keys().size());  // that the sweep takes, by bound key
  for (std::size_t i = 0; i < experiment.configurations_.size() && findings.size() < 100; ++i) {
    const Configuration& configuration = experiment.configurations_[i];
    const ExperimentSpec spec = experiment.resolve(i);
    for (std::size_t b = 0; b < kinds.size(); ++b) kinds[b].insert(kind_bound_keys()[b].kind_of(spec));
    report_contradictions(spec, [&](std::string_view key, std::string message) {
      Finding& finding = findings[{locate(&configuration, key), std::move(message)}];
      if (finding.count++ == 0) finding.label = configuration.label;
    });
  }
  for (const auto& [what, finding] : findings) {
    const bool all = finding.count == experiment.configurations_.size();
    problems.add(what.first, what.second + (all ? "" : " (configuration " + quote(finding.label) + ")"));
  }
  check_ignored_keys(kinds);
}

// A key that no configuration reads. Where --set chose the kind, what the file says for the other kind stays allowed.
void Experiment::Sources::check_ignored_keys(const std::vector<std::set<std::string>>& kinds) {
  for (std::size_t b = 0; b < kinds.size(); ++b) {
    const KindBoundKey& bound = kind_bound_keys()[b];
    if (find_value(root, bound.key) == nullptr && !overridden(bound.key)) continue;
    if (overridden(bound.kind_key) && !overridden(bound.key)) continue;
    const auto reads = [&](const std::string& kind) {
      return kind.empty() || std::find(bound.kinds.begin(), bound.kinds.end(), kind) != bound.kinds.end();
    };
    if (kinds[b].empty() || std::any_of(kinds[b].begin(), kinds[b].end(), reads)) continue;
    const std::string key(bound.key), kind_key(bound.kind_key);
    problems.add(locate(nullptr, key), key + " means nothing where " + kind_key + " is " + *kinds[b].begin() +
                                           ": take it out (it is for " + join(bound.kinds) + ")");
  }
}

Experiment Experiment::load(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  return parse(read_text(file), file.string(), overrides);
}

Experiment Experiment::parse(const std::string& text, const std::string& file_name,
                             const std::vector<std::string>& overrides) {
  Experiment experiment;
  experiment.text_ = text;
  experiment.file_ = file_name;
  auto sources = std::make_shared<Sources>();
  experiment.sources_ = sources;
  sources->read_file(text, file_name);
  sources->read_overrides(overrides);
  sources->check_name(file_name);

  std::set<std::string> fixed;
  for (const Override& one : sources->overrides)
    for (std::string& key : plain_keys(one.key, one.value)) fixed.insert(std::move(key));
  Sweep sweep;
  if (const Node* node = sources->root.find("sweep"))
    sweep = read_sweep(*node, sources->unresolved, fixed, sources->problems);
  sources->problems.throw_if_any();
  experiment.configurations_ = expand_sweep(sweep, sources->unresolved, sources->problems);
  sources->problems.throw_if_any();

  const auto keep = [&](const SweepSetting& setting) {
    sources->values.try_emplace(value_key(setting.key, setting.text), setting.node);
  };
  for (const SweepAxis& axis : sweep.axes)
    for (const SweepSetting& setting : axis.values) keep(setting);
  for (const auto* list : {&sweep.cases, &sweep.include})
    for (const SweepCase& entry : *list)
      for (const SweepSetting& setting : entry.settings) keep(setting);

  sources->check_configurations(experiment);
  sources->problems.throw_if_any();
  experiment.base_ = sources->unresolved;
  resolve_method_defaults(experiment.base_);
  find_files(file_name, experiment.base_);
  return experiment;
}

ExperimentSpec Experiment::resolve(std::size_t configuration) const {
  ExperimentSpec spec = sources_->unresolved;
  Problems none;  // values were checked when the file was read
  for (const auto& [key, text] : configurations_.at(configuration).parameters)
    set_field(spec, key, sources_->values.at(value_key(key, text)), none);
  resolve_method_defaults(spec);
  find_files(file_, spec);
  return spec;
}

std::string Experiment::where(std::size_t configuration, std::string_view key) const {
  return sources_->problems.where(sources_->locate(&configurations_.at(configuration), key));
}

bool Experiment::gives(std::size_t configuration, std::string_view key) const {
  return sources_->given(configurations_.at(configuration), key);
}

std::string Experiment::placed(std::size_t configuration, const std::string& message) const {
  std::string key = message.substr(0, message.find(':'));
  if (find_field(key) == nullptr) {
    // A file that cannot be read: the key that names it. A line of a data file is place enough; a file of pairs is read
    // for the key's sake alone.
    const ExperimentSpec spec = resolve(configuration);
    const DatasetSpec& dataset = spec.dataset;
    key.clear();
    for (const auto& [name, file] : {std::pair{"dataset.path", dataset.path},
                                     {"dataset.labels", dataset.labels},
                                     {"dataset.groups", dataset.groups}})
      if (key.empty() && !file.empty() && message.starts_with(file + ": ")) key = name;
    const std::string& pairs = spec.diagnostics.minimal_pairs;
    if (key.empty() && !pairs.empty() && message.starts_with(pairs + ":")) key = "diagnostics.minimal_pairs";
  }
  return key.empty() ? message : where(configuration, key) + ": " + message;
}

}  // namespace tenfold
