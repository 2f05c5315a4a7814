#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "experiments/spec.h"

namespace tenfold {

// One point of the sweep. `parameters` holds what the sweep set (dotted key, value as YAML flow text),
// in the order of the file; the label is made of what varies, or is the name of a case.
struct Configuration {
  std::string label;
  std::vector<std::pair<std::string, std::string>> parameters;
};

// An experiment file, read and checked. Configurations are resolved on demand, so that 100,000
// trials cost their overrides alone.
class Experiment {
 public:
  // `overrides` are "dotted.key=value" of --set, applied before the sweep. Throws Error(config) with all
  // problems of the file, one a line: `file:line:column: what is wrong, what is allowed`.
  static Experiment load(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});
  static Experiment parse(const std::string& text, const std::string& file_name,
                          const std::vector<std::string>& overrides = {});

  const std::string& name() const { return base_.name; }
  const std::string& text() const { return text_; }  // the file as read
  const std::string& file() const { return file_; }
  const ExperimentSpec& base() const { return base_; }  // without the sweep, defaults resolved
  const std::vector<Configuration>& configurations() const { return configurations_; }
  // The whole specification of one configuration: method defaults filled in, and the dataset's files found (a relative
  // path is looked for in the current folder, then beside the experiment file).
  ExperimentSpec resolve(std::size_t configuration) const;
  // Where the value of `key` comes from, for messages: "file:line:column" or "--set key=value".
  std::string where(std::size_t configuration, std::string_view key) const;
  // Whether the file, its sweep or --set gives `key`, or it is a default.
  bool gives(std::size_t configuration, std::string_view key) const;
  // A message that begins with a key ("folds.k: ...") or a data file of the experiment, with its place before it.
  std::string placed(std::size_t configuration, const std::string& message) const;

 private:
  struct Sources;  // the file's tree with its marks, and the values of the sweep
  Experiment() = default;
  std::string text_;
  std::string file_;
  ExperimentSpec base_;
  std::vector<Configuration> configurations_;
  std::shared_ptr<const Sources> sources_;
};

// Fills the optional values of `spec.ttt` with the defaults of its method (the authors' own; formulas in
// ttt/objective.h). Idempotent.
void resolve_method_defaults(ExperimentSpec& spec);

// Every field by its name; spec_from_json(to_json(s)) == s. Throws Error(config) on unknown or wrong fields.
nlohmann::json to_json(const ExperimentSpec& spec);
ExperimentSpec spec_from_json(const nlohmann::json& json);

// JSON Schema (draft 2020-12) of the experiment file, for editors.
nlohmann::json experiment_schema();

}  // namespace tenfold
