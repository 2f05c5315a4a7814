#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "experiments/spec_access.h"
#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

using nlohmann::json;

// The keywords that our schema uses; an unknown keyword fails, so that none is taken for checked.
class Validator {
 public:
  explicit Validator(json root) : root_(std::move(root)) {}
  bool accepts(const json& value) const { return accepts(root_, value); }

 private:
  bool accepts(const json& schema, const json& value) const {
    for (const auto& [keyword, operand] : schema.items())
      if (!check(keyword, operand, schema, value)) return false;
    return true;
  }
  bool check(const std::string& keyword, const json& operand, const json& schema, const json& value) const {
    if (keyword == "type") return has_type(operand, value);
    if (keyword == "enum") return std::find(operand.begin(), operand.end(), value) != operand.end();
    if (keyword == "const") return value == operand;
    if (keyword == "anyOf")
      return std::any_of(operand.begin(), operand.end(), [&](const json& one) { return accepts(one, value); });
    if (keyword == "minimum") return !value.is_number() || value >= operand;
    if (keyword == "maximum") return !value.is_number() || value <= operand;
    if (keyword == "exclusiveMinimum") return !value.is_number() || value > operand;
    if (keyword == "exclusiveMaximum") return !value.is_number() || value < operand;
    if (keyword == "minItems") return !value.is_array() || value.size() >= operand;
    if (keyword == "minProperties") return !value.is_object() || value.size() >= operand;
    if (keyword == "items")
      return !value.is_array() ||
             std::all_of(value.begin(), value.end(), [&](const json& v) { return accepts(operand, v); });
    if (keyword == "uniqueItems")
      return !value.is_array() || std::set<json>(value.begin(), value.end()).size() == value.size();
    if (keyword == "pattern")
      return !value.is_string() || std::regex_search(value.get<std::string>(), std::regex(operand.get<std::string>()));
    if (keyword == "required")
      return !value.is_object() ||
             std::all_of(operand.begin(), operand.end(), [&](const json& k) { return value.contains(k); });
    if (keyword == "properties") {
      if (!value.is_object()) return true;
      for (const auto& [key, inner] : value.items())
        if (operand.contains(key) && !accepts(operand[key], inner)) return false;
      return true;
    }
    if (keyword == "additionalProperties") {
      if (!value.is_object()) return true;
      for (const auto& [key, inner] : value.items()) {
        if (schema.contains("properties") && schema["properties"].contains(key)) continue;
        if (operand.is_boolean() ? !operand.get<bool>() : !accepts(operand, inner)) return false;
      }
      return true;
    }
    if (keyword == "$ref") return accepts(root_.at(json::json_pointer(operand.get<std::string>().substr(1))), value);
    const bool annotation = keyword == "description" || keyword == "default" || keyword == "title" ||
                            keyword == "$schema" || keyword == "$defs";
    EXPECT_TRUE(annotation) << "keyword " << keyword << " is not checked by this test";
    return annotation;
  }
  static bool has_type(const std::string& type, const json& value) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "integer") return value.is_number_integer();
    return type == "number" && value.is_number();
  }
  json root_;
};

// The property of a dotted key, through short forms and optional sections.
const json* property(const json& schema, const std::string& key) {
  if (schema.contains("anyOf")) {
    for (const json& one : schema["anyOf"])
      if (const json* found = property(one, key)) return found;
    return nullptr;
  }
  const std::size_t dot = key.find('.');
  const std::string head = key.substr(0, dot);
  if (!schema.contains("properties") || !schema["properties"].contains(head)) return nullptr;
  const json& inner = schema["properties"][head];
  return dot == std::string::npos ? &inner : property(inner, key.substr(dot + 1));
}

TEST(Schema, HasEveryFieldWithItsDocumentation) {
  const json schema = experiment_schema();
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  for (const FieldInfo& field : experiment_fields()) {
    const json* found = property(schema, field.key);
    ASSERT_NE(found, nullptr) << field.key;
    EXPECT_EQ((*found)["description"], field.doc);
    const bool sweepable = (!field.key.starts_with("resources") && !field.key.starts_with("checkpoint") &&
                            !field.key.starts_with("on_nonfinite") && field.key != "name" && field.key != "retries") ||
                           field.key == "resources.ranks_per_trial";
    EXPECT_EQ(schema["properties"]["sweep"]["properties"].contains(field.key), sweepable) << field.key;
    EXPECT_EQ(schema["$defs"]["settings"]["properties"].contains(field.key), sweepable) << field.key;
  }
  EXPECT_EQ((*property(schema, "train.batch_size"))["default"], 32);
  EXPECT_EQ((*property(schema, "dataset.shift.severity"))["maximum"], 5);
}

TEST(Schema, AgreesWithTheReader) {
  const Validator validator(experiment_schema());
  // JSON is YAML, so the reader judges the same texts.
  const std::pair<const char*, bool> texts[] = {
      {R"({"dataset": "digits"})", true},
      {R"({"dataset": {"kind": "digits", "shift": "contrast"}, "folds": "kfold"})", true},
      {R"({"dataset": "digits", "train": {"clip_norm": "none", "schedule": "cosine", "optimizer": {"lr": 0.1}}})",
       true},
      {R"({"dataset": "digits", "ttt": {"query_size": "all", "parameters": ["norm", "last:1"], "lr": null}})", true},
      {R"({"dataset": "digits", "ttt": {"parameters": "norm", "clip_norm": 0, "schedule": {"kind": "step"}}})", true},
      {R"({"dataset": "digits", "sweep": {"ttt.lr": [0.1, 0.2], "model.hidden": [[8, 8], 4], "cases": {"a": null, "b": {"seed": 1}}}})",
       true},
      {R"({"dataset": "digits", "sweep": {"ttt.steps": [1, 2], "include": [{"ttt.steps": 5}], "exclude": [{"ttt.steps": 1}]}})",
       true},
      {R"({"dataset": "digit"})", false},
      {R"({"dataset": "digits", "trian": {}})", false},
      {R"({"dataset": "digits", "train": {"epochs": 2.5}})", false},
      {R"({"dataset": "digits", "train": {"clip_norm": 0}})", false},
      {R"({"dataset": "digits", "model": {"dropout": 1}})", false},
      {R"({"dataset": "digits", "ttt": {"lr": "fast"}})", false},
      {R"({"dataset": "digits", "metrics": ["nll", "nll"]})", false},
      {R"({"dataset": "digits", "name": "a/b"})", false},
      {R"({"dataset": "digits", "sweep": {"ttt.lr": []}})", false},
      {R"({"dataset": "digits", "sweep": {"ttt.lr": 0.1}})", false},
      {R"({"dataset": "digits", "sweep": {"resources.slots": [1, 2]}})", false},
      {R"({"seed": 1})", false},
  };
  for (const auto& [text, valid] : texts) {
    EXPECT_EQ(validator.accepts(json::parse(text)), valid) << text;
    EXPECT_EQ(refusal(text).empty(), valid) << text << "\n" << refusal(text);
  }
}

}  // namespace
}  // namespace tenfold::testing
