#include <nlohmann/json.hpp>

#include "experiments/document.h"
#include "experiments/error.h"
#include "experiments/experiment.h"
#include "experiments/field_access.h"
#include "experiments/problems.h"
#include "experiments/spec_access.h"

namespace tenfold {
namespace {

template <class T>
nlohmann::json value_json(const T& value) {
  if constexpr (OptionalValue<T>) {
    return value ? value_json(*value) : nlohmann::json(nullptr);
  } else if constexpr (Section<T>) {
    nlohmann::json out = nlohmann::json::object();
    Fields<T>::visit([&](const Field& field, auto member) { out[std::string(field.key)] = value_json(value.*member); });
    return out;
  } else {
    return value;
  }
}

}  // namespace

nlohmann::json to_json(const ExperimentSpec& spec) { return value_json(spec); }

ExperimentSpec spec_from_json(const nlohmann::json& json) {
  Problems problems;
  Node root = node_of_json(json);
  const auto mark = [](auto&& self, Node& node, std::int32_t source) -> void {
    node.mark.source = source;
    for (NodeKey& key : node.keys) key.mark.source = source;
    for (Node& item : node.items) self(self, item, source);
  };
  mark(mark, root, problems.add_source("specification", false));
  if (!root.is_map()) throw Error(ErrorKind::config, "specification: wants keys and values");
  ExperimentSpec spec;
  read_spec(root, spec, problems);
  if (root.find("sweep") != nullptr) problems.add(root.mark, "unknown key \"sweep\"");
  problems.throw_if_any();
  return spec;
}

}  // namespace tenfold
