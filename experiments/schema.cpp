#include <limits>
#include <nlohmann/json.hpp>

#include "experiments/experiment.h"
#include "experiments/field_access.h"
#include "experiments/sweep.h"

namespace tenfold {
namespace {

using nlohmann::json;

json texts(std::span<const std::string_view> words) {
  json out = json::array();
  for (const std::string_view word : words) out.push_back(std::string(word));
  return out;
}

template <class T>
json number_schema(const Field& field) {
  json out = {{"type", std::is_floating_point_v<T> ? "number" : "integer"}};
  if (field.minimum > -std::numeric_limits<double>::infinity()) {
    if constexpr (std::is_integral_v<T>)
      out["minimum"] = static_cast<std::int64_t>(field.minimum);
    else
      out[field.above_minimum ? "exclusiveMinimum" : "minimum"] = field.minimum;
  } else if (std::is_unsigned_v<T>) {
    out["minimum"] = 0;
  }
  if (field.maximum < std::numeric_limits<double>::infinity()) {
    if constexpr (std::is_integral_v<T>)
      out["maximum"] = static_cast<std::int64_t>(field.maximum);
    else
      out[field.below_maximum ? "exclusiveMaximum" : "maximum"] = field.maximum;
  }
  return out;
}

// Of the value alone, without its documentation.
template <class T>
json value_schema(const Field& field);

template <Section S>
json section_schema() {
  json properties = json::object();
  json short_form;
  const S defaults{};
  Fields<S>::visit([&](const Field& field, auto member) {
    using T = std::remove_cvref_t<decltype(defaults.*member)>;
    json property = value_schema<T>(field);
    if (field.shorthand) short_form = property;
    property["description"] = std::string(field.doc);
    if constexpr (OptionalValue<T>) {
      if (!field.unset_word.empty() && !(defaults.*member)) property["default"] = std::string(field.unset_word);
    } else if constexpr (!Section<T>) {
      if constexpr (std::is_same_v<T, std::string>) {
        if (!(defaults.*member).empty()) property["default"] = defaults.*member;
      } else {
        property["default"] = defaults.*member;
      }
    }
    properties[std::string(field.key)] = std::move(property);
  });
  json object = {{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (short_form.is_null()) return object;
  return {{"anyOf", json::array({std::move(object), std::move(short_form)})}};
}

template <class T>
json value_schema(const Field& field) {
  if constexpr (Section<T>) {
    return section_schema<T>();
  } else if constexpr (OptionalValue<T>) {
    json any = json::array({value_schema<typename T::value_type>(field), {{"type", "null"}}});
    if (!field.unset_word.empty()) any.push_back({{"const", std::string(field.unset_word)}});
    return {{"anyOf", std::move(any)}};
  } else if constexpr (ListValue<T>) {
    json item = value_schema<typename T::value_type>(field);
    json list = {{"type", "array"}, {"items", item}};
    if constexpr (std::is_same_v<typename T::value_type, std::string>) list["uniqueItems"] = true;
    return {{"anyOf", json::array({std::move(list), std::move(item)})}};
  } else if constexpr (std::is_same_v<T, bool>) {
    return {{"type", "boolean"}};
  } else if constexpr (std::is_same_v<T, std::string>) {
    json out = {{"type", "string"}};
    if (!field.allowed.empty()) out["enum"] = texts(field.allowed);
    return out;
  } else {
    json number = number_schema<T>(field);
    if (field.zero_word.empty()) return number;
    return {{"anyOf", json::array({std::move(number), {{"const", std::string(field.zero_word)}}})}};
  }
}

// Every dotted key that a sweep may vary, with the schema of one value.
template <Section S>
void dotted_keys(const std::string& prefix, json& out) {
  Fields<S>::visit([&](const Field& field, auto member) {
    using T = std::remove_cvref_t<decltype(std::declval<S>().*member)>;
    const std::string key = prefix + std::string(field.key);
    if (changes_results(key)) {
      json value = value_schema<T>(field);
      value["description"] = std::string(field.doc);
      out[key] = std::move(value);
    }
    if constexpr (Section<T>)
      dotted_keys<T>(key + ".", out);
    else if constexpr (OptionalValue<T>)
      if constexpr (Section<typename T::value_type>) dotted_keys<typename T::value_type>(key + ".", out);
  });
}

json sweep_schema(const json& keys) {
  json properties = json::object();
  for (const auto& [key, value] : keys.items())
    properties[key] = {{"type", "array"},
                       {"minItems", 1},
                       {"items", {{"$ref", "#/$defs/settings/properties/" + key}}},
                       {"description", value.at("description")}};
  const json settings = {{"$ref", "#/$defs/settings"}};
  properties["include"] = {{"type", "array"}, {"items", settings}, {"description", "further configurations"}};
  properties["exclude"] = {
      {"type", "array"}, {"items", settings}, {"description", "combinations of the grid to leave out"}};
  properties["cases"] = {{"type", "object"},
                         {"additionalProperties", {{"anyOf", json::array({settings, {{"type", "null"}}})}}},
                         {"description", "labels, each setting several keys; crossed with the grid"}};
  return {{"type", "object"},
          {"additionalProperties", false},
          {"properties", std::move(properties)},
          {"description", "what varies: lists of values by dotted key, all combinations of which are run"}};
}

}  // namespace

json experiment_schema() {
  json keys = json::object();
  dotted_keys<ExperimentSpec>("", keys);
  json schema = section_schema<ExperimentSpec>();
  schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
  schema["title"] = "tenfold experiment";
  schema["description"] = "a cross-validation experiment of test-time training";
  schema["required"] = {"dataset"};
  schema["properties"]["name"]["pattern"] = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$";
  schema["properties"]["sweep"] = sweep_schema(keys);
  schema["$defs"]["settings"] = {
      {"type", "object"}, {"additionalProperties", false}, {"minProperties", 1}, {"properties", std::move(keys)}};
  return schema;
}

}  // namespace tenfold
