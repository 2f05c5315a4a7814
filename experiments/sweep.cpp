#include "experiments/sweep.h"

#include <algorithm>

#include "experiments/spec_access.h"

namespace tenfold {
namespace {

bool inside(std::string_view key, std::string_view section) {
  return key.size() > section.size() && key.starts_with(section) && key[section.size()] == '.';
}

class SweepReader {
 public:
  SweepReader(const ExperimentSpec& base, const std::set<std::string>& fixed, Problems& problems)
      : base_(base), fixed_(fixed), problems_(problems) {}

  Sweep read(const Node& node) {
    sweep_.mark = node.mark;
    if (node.is_null()) return std::move(sweep_);
    if (!node.is_map()) {
      problems_.add(node.mark, "sweep wants dotted keys with lists of values, such as ttt.lr: [1e-4, 3e-4]");
      return std::move(sweep_);
    }
    if (node.keys.empty())
      problems_.add(node.mark,
                    "sweep is empty: give it keys with lists of values, such as ttt.lr: [1e-4, 3e-4], or leave it out");
    for (std::size_t i = 0; i < node.keys.size() && !problems_.full(); ++i) {
      const NodeKey& key = node.keys[i];
      if (key.text == "include")
        read_list(node.items[i], key, sweep_.include);
      else if (key.text == "exclude")
        read_list(node.items[i], key, sweep_.exclude);
      else if (key.text == "cases")
        read_cases(node.items[i], key);
      else
        read_axis(node.items[i], key);
    }
    check_overlaps();
    return std::move(sweep_);
  }

 private:
  bool check_key(const NodeKey& key) {
    if (!check_dotted_key(key.text, key.mark, problems_)) return false;
    if (changes_results(key.text)) return true;
    problems_.add(key.mark, key.text + " changes no result, so it cannot be swept; give it outside of sweep");
    return false;
  }
  bool is_fixed(const std::string& key, const Node& value) const {
    const auto keys = plain_keys(key, value);
    return std::any_of(keys.begin(), keys.end(), [&](const auto& k) { return fixed_.contains(k); });
  }

  // False when the value is wrong.
  bool read_setting(const NodeKey& key, const Node& value, SweepSetting& setting) {
    const std::size_t before = problems_.size();
    ExperimentSpec scratch = base_;
    set_field(scratch, key.text, value, problems_);
    if (problems_.size() != before) return false;
    const bool section = find_field(key.text)->section;
    setting = {key.text, section ? flow_text(value) : field_text(scratch, key.text),
               section ? plain_text(value) : field_label(scratch, key.text), value, key.mark};
    return true;
  }

  void read_axis(const Node& node, const NodeKey& key) {
    if (!check_key(key)) return;
    if (!node.is_sequence()) {
      const char* more = find_field(key.text)->section && node.is_map()
                             ? "; inside sweep keys are dotted, such as "
                             : "; to set one value, write it outside of sweep";
      std::string example;
      if (node.is_map() && !node.keys.empty() && find_field(key.text)->section)
        example = key.text + "." + node.keys[0].text + ": [...]";
      problems_.add(node.is_null() ? key.mark : node.mark,
                    "sweep wants a list of values for " + key.text + more + example);
      return;
    }
    if (node.items.empty()) {
      problems_.add(node.mark, "sweep has no value for " + key.text + ": give at least one, or leave the key out");
      return;
    }
    SweepAxis axis{key.text, key.mark, {}};
    bool fixed = false;
    std::set<std::string> seen;
    for (const Node& value : node.items) {
      if (problems_.full()) return;
      SweepSetting setting;
      if (!read_setting(key, value, setting)) continue;
      fixed = fixed || is_fixed(key.text, value);
      if (!seen.insert(setting.text).second) {
        problems_.add(value.mark, "sweep gives " + key.text + " the value " + setting.text + " twice" +
                                      (find_field(key.text)->type.starts_with("list")
                                           ? "; a value that is a list needs brackets of its own: [[128, 128], [64]]"
                                           : ""));
        continue;
      }
      axis.values.push_back(std::move(setting));
    }
    if (fixed)
      sweep_.trimmed = true;
    else if (!axis.values.empty())
      sweep_.axes.push_back(std::move(axis));
  }

  void read_settings(const Node& node, const std::string& where, bool keep_fixed, SweepCase& out) {
    if (!node.is_map() || node.keys.empty()) {
      problems_.add(node.mark, where + " wants dotted keys and values, such as {ttt.lr: 1e-4}");
      return;
    }
    for (std::size_t i = 0; i < node.keys.size() && !problems_.full(); ++i) {
      SweepSetting setting;
      if (!check_key(node.keys[i]) || !read_setting(node.keys[i], node.items[i], setting)) continue;
      if (!keep_fixed && is_fixed(setting.key, setting.node)) {
        sweep_.trimmed = true;
        continue;
      }
      for (const SweepSetting& other : out.settings)
        if (inside(setting.key, other.key) || inside(other.key, setting.key))
          problems_.add(node.keys[i].mark, where + " sets both " + other.key + " and " + setting.key);
      out.settings.push_back(std::move(setting));
    }
    const auto sets = [&](std::string_view key) {
      return std::any_of(out.settings.begin(), out.settings.end(), [&](const auto& s) { return s.key == key; });
    };
    if (sets("train.epochs") && sets("train.steps"))
      problems_.add(node.mark, where + " sets both train.epochs and train.steps: give one of them");
  }

  void read_list(const Node& node, const NodeKey& key, std::vector<SweepCase>& out) {
    const std::string where = "sweep." + key.text;
    if (!node.is_sequence() || node.items.empty()) {
      problems_.add(node.is_null() ? key.mark : node.mark, where + " wants a list such as [{ttt.lr: 1e-4}]");
      return;
    }
    for (const Node& item : node.items) {
      SweepCase entry{{}, item.mark, {}};
      read_settings(item, where, key.text == "exclude", entry);
      out.push_back(std::move(entry));
    }
  }

  void read_cases(const Node& node, const NodeKey& key) {
    if (!node.is_map() || node.keys.empty()) {
      problems_.add(node.is_null() ? key.mark : node.mark,
                    "sweep.cases wants labels with keys, such as {gentle: {ttt.lr: 1e-5, ttt.steps: 100}}");
      return;
    }
    for (std::size_t i = 0; i < node.keys.size(); ++i) {
      const NodeKey& label = node.keys[i];
      if (label.text.empty() || label.text.size() > 100 || label.text.find('\n') != std::string::npos)
        problems_.add(label.mark, "a case's label has 1 to 100 characters on one line");
      SweepCase entry{label.text, label.mark, {}};
      // An empty case is the base itself.
      const bool base = node.items[i].is_null() || (node.items[i].is_map() && node.items[i].keys.empty());
      if (!base) read_settings(node.items[i], "sweep.cases." + label.text, false, entry);
      sweep_.cases.push_back(std::move(entry));
    }
  }

  void check_overlaps() {
    const auto overlap = [](const std::string& a, const std::string& b) {
      return a == b || inside(a, b) || inside(b, a);
    };
    for (std::size_t i = 0; i < sweep_.axes.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j)
        if (overlap(sweep_.axes[i].key, sweep_.axes[j].key))
          problems_.add(sweep_.axes[i].mark, "sweep varies both " + sweep_.axes[j].key + " and " + sweep_.axes[i].key);
      for (const SweepCase& one : sweep_.cases)
        for (const SweepSetting& setting : one.settings)
          if (overlap(setting.key, sweep_.axes[i].key))
            problems_.add(setting.key_mark, "case " + quote(one.label) + " sets " + setting.key +
                                                ", which is an axis of the sweep as well: keep one");
    }
    const auto axis = [&](const char* key) {
      return std::find_if(sweep_.axes.begin(), sweep_.axes.end(), [&](const SweepAxis& a) { return a.key == key; });
    };
    const auto epochs = axis("train.epochs"), steps = axis("train.steps");
    if (epochs != sweep_.axes.end() && steps != sweep_.axes.end())
      problems_.add(std::max(epochs->mark, steps->mark),
                    "sweep varies both train.epochs and train.steps, of which one counts: use sweep.cases");
  }

  const ExperimentSpec& base_;
  const std::set<std::string>& fixed_;
  Problems& problems_;
  Sweep sweep_;
};

}  // namespace

bool changes_results(std::string_view key) {
  if (key == "resources.ranks_per_trial") return true;
  for (const std::string_view section : {"name", "retries", "on_nonfinite", "resources", "checkpoint"})
    if (key == section || inside(key, section)) return false;
  return true;
}

bool check_dotted_key(std::string_view key, const Mark& mark, Problems& problems) {
  if (find_field(key) != nullptr) return true;
  // The longest part that exists tells where the mistake is.
  std::string_view path = key;
  while (true) {
    const std::size_t dot = path.rfind('.');
    if (dot == std::string_view::npos) break;
    path = path.substr(0, dot);
    const FieldInfo* section = find_field(path);
    if (section == nullptr) continue;
    const std::string_view rest = key.substr(path.size() + 1);
    if (!section->section)
      problems.add(mark, "unknown key " + quote(key) + "; " + std::string(path) + " has no keys of its own");
    else
      problems.add(mark, unknown_key_message(rest.substr(0, rest.find('.')), path));
    return false;
  }
  problems.add(mark, unknown_key_message(key.substr(0, key.find('.')), ""));
  return false;
}

std::vector<std::string> plain_keys(const std::string& key, const Node& value) {
  const FieldInfo* field = find_field(key);
  if (field == nullptr || !field->section) return {key};
  std::vector<std::string> out;
  if (value.is_map()) {
    for (std::size_t i = 0; i < value.keys.size(); ++i)
      for (std::string& inner : plain_keys(key + "." + value.keys[i].text, value.items[i]))
        out.push_back(std::move(inner));
    return out;
  }
  for (const char* short_form : {".kind", ".method", ".enabled", ".patience"})
    if (find_field(key + short_form) != nullptr) return {key + short_form};
  return {key};
}

Sweep read_sweep(const Node& node, const ExperimentSpec& base, const std::set<std::string>& fixed, Problems& problems) {
  return SweepReader(base, fixed, problems).read(node);
}

}  // namespace tenfold
