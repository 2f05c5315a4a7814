#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "experiments/spec_access.h"
#include "experiments/sweep.h"

namespace tenfold {
namespace {

// One configuration while the sweep is expanded.
struct Point {
  const SweepCase* origin = nullptr;  // case or entry of include
  bool included = false;
  std::vector<const SweepSetting*> settings;  // case, then axes
};

std::size_t grid_size(const Sweep& sweep) {
  std::size_t count = std::max<std::size_t>(1, sweep.cases.size());
  for (const SweepAxis& axis : sweep.axes) {
    if (count > kMaxConfigurations) break;
    count *= axis.values.size();
  }
  return count;
}

std::string value_in(const Point& point, const std::string& key, const ExperimentSpec& base) {
  for (const SweepSetting* setting : point.settings)
    if (setting->key == key) return setting->text;
  return field_text(base, key);
}

std::vector<Point> grid(const Sweep& sweep) {
  std::vector<Point> points;
  if (sweep.axes.empty() && sweep.cases.empty() && !sweep.include.empty()) return points;  // the entries alone
  std::vector<const SweepCase*> cases;
  for (const SweepCase& one : sweep.cases) cases.push_back(&one);
  if (cases.empty()) cases.push_back(nullptr);
  for (const SweepCase* one : cases) {
    std::vector<std::size_t> index(sweep.axes.size(), 0);
    while (true) {
      Point point{one, false, {}};
      if (one != nullptr)
        for (const SweepSetting& setting : one->settings) point.settings.push_back(&setting);
      for (std::size_t a = 0; a < index.size(); ++a) point.settings.push_back(&sweep.axes[a].values[index[a]]);
      points.push_back(std::move(point));
      std::size_t a = index.size();
      while (a > 0 && ++index[a - 1] == sweep.axes[a - 1].values.size()) index[--a] = 0;
      if (a == 0) break;
    }
  }
  return points;
}

void exclude(const Sweep& sweep, const ExperimentSpec& base, Problems& problems, std::vector<Point>& points) {
  std::set<std::string> varied;
  for (const SweepAxis& axis : sweep.axes) varied.insert(axis.key);
  for (const SweepCase& one : sweep.cases)
    for (const SweepSetting& setting : one.settings) varied.insert(setting.key);
  for (const SweepCase& entry : sweep.exclude) {
    bool usable = !entry.settings.empty();
    for (const SweepSetting& setting : entry.settings)
      if (!varied.contains(setting.key) && !sweep.trimmed) {
        problems.add(setting.key_mark, "sweep.exclude names " + setting.key + ", which the sweep does not vary");
        usable = false;
      }
    if (!usable) continue;
    const std::size_t removed = std::erase_if(points, [&](const Point& point) {
      return std::all_of(entry.settings.begin(), entry.settings.end(),
                         [&](const SweepSetting& s) { return value_in(point, s.key, base) == s.text; });
    });
    if (removed == 0 && !sweep.trimmed)
      problems.add(entry.mark, "sweep.exclude drops nothing here: no combination has these values");
  }
}

// Sections are chosen by their kind: `optimizer` says more in a label than `kind`.
std::string_view label_key(std::string_view key) {
  for (const std::string_view end : {".kind", ".enabled"})
    if (key.ends_with(end)) return key.substr(0, key.size() - end.size());
  return key;
}

bool ends_alike(std::string_view key, std::string_view end) {
  return key == end || (key.size() > end.size() && key.ends_with(end) && key[key.size() - end.size() - 1] == '.');
}

// The shortest last components that name each key alone.
std::map<std::string, std::string, std::less<>> short_names(const std::set<std::string>& keys) {
  std::map<std::string, std::string, std::less<>> names;
  for (const std::string& key : keys) {
    const std::string_view whole = label_key(key);
    std::size_t dot = whole.rfind('.');
    while (true) {
      const std::string_view end = dot == std::string_view::npos ? whole : whole.substr(dot + 1);
      const auto alike = std::count_if(keys.begin(), keys.end(),
                                       [&](const std::string& other) { return ends_alike(label_key(other), end); });
      if (alike <= 1 || dot == std::string_view::npos) {
        names[key] = end;
        break;
      }
      dot = dot == 0 ? std::string_view::npos : whole.rfind('.', dot - 1);
    }
  }
  return names;
}

// Keys of axes and include entries that take more than one value over the configurations.
std::set<std::string> varying_keys(const std::vector<Point>& points, const ExperimentSpec& base) {
  std::map<std::string, std::unordered_set<std::string>> values;
  std::map<std::string, std::size_t> uses;
  for (const Point& point : points)
    for (const SweepSetting* setting : point.settings) {
      values[setting->key].insert(setting->text);
      ++uses[setting->key];
    }
  std::set<std::string> out;
  for (auto& [key, texts] : values) {
    if (uses[key] < points.size()) texts.insert(field_text(base, key));
    if (texts.size() > 1) out.insert(key);
  }
  return out;
}

bool of_case(const Point& point, const SweepSetting* setting) {
  return point.origin != nullptr && !point.included && setting >= point.origin->settings.data() &&
         setting < point.origin->settings.data() + point.origin->settings.size();
}

}  // namespace

std::vector<Configuration> expand_sweep(const Sweep& sweep, const ExperimentSpec& base, Problems& problems) {
  if (const std::size_t count = grid_size(sweep); count > kMaxConfigurations) {
    problems.add(sweep.mark, "the sweep has more than " + std::to_string(kMaxConfigurations) + " configurations");
    return {};
  }
  std::vector<Point> points = grid(sweep);
  exclude(sweep, base, problems, points);
  for (const SweepCase& entry : sweep.include) {
    Point point{&entry, true, {}};
    for (const SweepSetting& setting : entry.settings) point.settings.push_back(&setting);
    points.push_back(std::move(point));
  }
  if (points.empty()) {
    if (problems.empty()) problems.add(sweep.mark, "sweep.exclude drops every configuration");
    return {};
  }

  const std::set<std::string> varying = varying_keys(points, base);
  // What a case sets shows under its label alone.
  std::set<std::string> shown;
  for (const Point& point : points)
    for (const SweepSetting* setting : point.settings)
      if (!of_case(point, setting) && varying.contains(setting->key)) shown.insert(setting->key);
  const auto names = short_names(shown);

  std::vector<Configuration> configurations;
  configurations.reserve(points.size());
  std::unordered_set<std::string_view> labels;  // into `configurations`, which does not grow beyond its reserve
  std::set<std::pair<std::size_t, std::size_t>> contents;  // 128-bit hashes: texts would double the memory
  std::vector<std::string> content;
  for (const Point& point : points) {
    Configuration configuration;
    content.clear();
    if (point.origin != nullptr && !point.included) configuration.label = point.origin->label;
    configuration.parameters.reserve(point.settings.size());
    for (const SweepSetting* setting : point.settings) {
      configuration.parameters.emplace_back(setting->key, setting->text);
      if (setting->text != field_text(base, setting->key)) content.push_back(setting->key + "=" + setting->text);
      if (of_case(point, setting) || !varying.contains(setting->key)) continue;
      if (!configuration.label.empty()) configuration.label += ' ';
      configuration.label += names.find(setting->key)->second + "=" + setting->label;
    }
    if (configuration.label.empty()) configuration.label = "default";
    std::sort(content.begin(), content.end());
    std::string joined;
    for (const std::string& part : content) joined += part + "\n";
    configurations.push_back(std::move(configuration));
    const std::string& label = configurations.back().label;
    const Mark mark = point.origin != nullptr ? point.origin->mark : sweep.mark;
    const std::hash<std::string> hash;
    const std::size_t first_hash = hash(joined);
    const bool is_new = contents.emplace(first_hash, hash(joined + "again")).second;
    if (!is_new)
      problems.add(mark, "the sweep gives configuration " + quote(label) + " twice: its values are those of another");
    if (!labels.insert(label).second && is_new)
      problems.add(mark, "two configurations are called " + quote(label) + ": rename the case");
  }
  return configurations;
}

}  // namespace tenfold
