#pragma once

#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "experiments/document.h"
#include "experiments/experiment.h"
#include "experiments/problems.h"

namespace tenfold {

inline constexpr std::size_t kMaxConfigurations = 1'000'000;

// Keys for which it does not hold cannot be swept: the same trials would run again.
bool changes_results(std::string_view key);

// A value that the sweep gives to a key. `text` is canonical for plain values: equal values have equal texts,
// however they were written.
struct SweepSetting {
  std::string key;
  std::string text;   // YAML flow text
  std::string label;  // without quotes and blanks
  Node node;
  Mark key_mark;
};

struct SweepAxis {
  std::string key;
  Mark mark;
  std::vector<SweepSetting> values;
};

struct SweepCase {
  std::string label;  // empty for entries of include and exclude
  Mark mark;
  std::vector<SweepSetting> settings;
};

// The section `sweep` of a file, checked.
struct Sweep {
  Mark mark;
  std::vector<SweepAxis> axes;
  std::vector<SweepCase> cases;
  std::vector<SweepCase> include;
  std::vector<SweepCase> exclude;
  bool trimmed = false;  // --set took keys out of it
};

// A key that --set may name and sweeps may vary; otherwise adds a problem.
bool check_dotted_key(std::string_view key, const Mark& mark, Problems& problems);
// The plain keys that a value of `key` sets: itself, or those inside a section's map or short form.
std::vector<std::string> plain_keys(const std::string& key, const Node& value);

// `fixed` are the plain keys that --set gave: they no longer vary.
Sweep read_sweep(const Node& node, const ExperimentSpec& base, const std::set<std::string>& fixed, Problems& problems);

// Cases x axes (the last axis fastest), less `exclude`, then `include`.
std::vector<Configuration> expand_sweep(const Sweep& sweep, const ExperimentSpec& base, Problems& problems);

}  // namespace tenfold
