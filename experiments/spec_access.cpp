#include "experiments/spec_access.h"

#include <algorithm>
#include <map>

#include "experiments/field_access.h"
#include "experiments/spec_reader.h"

namespace tenfold {
namespace {

std::string number_range(const Field& field) {
  const bool low = field.minimum > -std::numeric_limits<double>::infinity();
  const bool high = field.maximum < std::numeric_limits<double>::infinity();
  std::string out;
  if (low && high && !field.above_minimum && !field.below_maximum)
    out = number_text(field.minimum) + " to " + number_text(field.maximum);
  else if (low && high)
    out = (field.above_minimum ? "above " : "from ") + number_text(field.minimum) +
          (field.below_maximum ? " to below " : " to ") + number_text(field.maximum);
  else if (low)
    out = field.above_minimum ? "above " + number_text(field.minimum) : number_text(field.minimum) + " and above";
  else if (high)
    out = field.below_maximum ? "below " + number_text(field.maximum) : "up to " + number_text(field.maximum);
  for (const std::string_view word : {field.zero_word, field.unset_word})
    if (!word.empty()) out += (out.empty() ? "" : ", or ") + std::string(word);
  return out;
}

template <class T>
const char* type_name() {
  if constexpr (OptionalValue<T>)
    return type_name<typename T::value_type>();
  else if constexpr (Section<T>)
    return "section";
  else if constexpr (std::is_same_v<T, std::vector<std::string>>)
    return "list of texts";
  else if constexpr (ListValue<T>)
    return "list of whole numbers";
  else if constexpr (std::is_same_v<T, std::string>)
    return "text";
  else if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_same_v<T, double>)
    return "number";
  else
    return "whole number";
}

template <class T>
std::string value_text(const Field& field, const T& value, bool label) {
  const auto scalar = [&](const auto& v) {
    const std::string text = scalar_text(v);
    return label || !std::is_same_v<std::remove_cvref_t<decltype(v)>, std::string> ? text : flow_scalar(text);
  };
  if constexpr (OptionalValue<T>) {
    if (!value) return field.unset_word.empty() ? "null" : std::string(field.unset_word);
    return value_text(field, *value, label);
  } else if constexpr (Section<T>) {
    return {};
  } else if constexpr (ListValue<T>) {
    if (value.size() == 1) return scalar(value.front());
    std::string out = "[";
    for (const auto& item : value) out += (out.size() > 1 ? (label ? "," : ", ") : "") + scalar(item);
    return out + "]";
  } else {
    if constexpr (std::is_arithmetic_v<T>)
      if (value == T{} && !field.zero_word.empty()) return std::string(field.zero_word);
    return scalar(value);
  }
}

template <Section S>
void list_fields(const S& defaults, const std::string& prefix, std::vector<FieldInfo>& out) {
  Fields<S>::visit([&](const Field& field, auto member) {
    const auto& value = defaults.*member;
    using T = std::remove_cvref_t<decltype(value)>;
    FieldInfo info;
    info.key = prefix + std::string(field.key);
    info.doc = field.doc;
    info.type = type_name<T>();
    info.allowed = field.allowed.empty() ? number_range(field) : join(field.allowed);
    const auto descend = [&](const auto& section) {
      info.section = true;
      const std::string inner = info.key + ".";
      out.push_back(std::move(info));
      list_fields(section, inner, out);
    };
    if constexpr (Section<T>) {
      descend(value);
      return;
    } else if constexpr (OptionalValue<T>) {
      if constexpr (Section<typename T::value_type>) {
        descend(typename T::value_type{});
        return;
      }
    }
    info.default_value = value_text(field, value, false);
    if (info.default_value == "null" || info.default_value == "\"\"") info.default_value.clear();
    info.introduced_as = field.introduced_as.empty() ? info.default_value : std::string(field.introduced_as);
    out.push_back(std::move(info));
  });
}

std::string value_of(const ExperimentSpec& spec, std::string_view key, bool label) {
  std::string text;
  const bool found = with_field(
      spec, key, [](const auto& section) { return section ? &*section : nullptr; },
      [&](const Field& field, const auto& value) { text = value_text(field, value, label); });
  return found ? text : "null";
}

}  // namespace

std::string SpecReader::allowed_range(const Field& field) { return number_range(field); }

std::span<const std::string_view> names::metrics() {
  static const std::vector<std::string_view> all = [] {
    std::vector<std::string_view> out;
    for (const MetricInfo& metric : tenfold::metrics())
      if (metric.listed) out.push_back(metric.name);
    return out;
  }();
  return all;
}

const std::vector<FieldInfo>& experiment_fields() {
  static const std::vector<FieldInfo> fields = [] {
    std::vector<FieldInfo> out;
    const ExperimentSpec defaults;  // named: GCC 12 takes a temporary of this size for uninitialised
    list_fields(defaults, "", out);
    return out;
  }();
  return fields;
}

const FieldInfo* find_field(std::string_view dotted_key) {
  static const std::map<std::string_view, const FieldInfo*> index = [] {
    std::map<std::string_view, const FieldInfo*> out;
    for (const FieldInfo& field : experiment_fields()) out.emplace(field.key, &field);
    return out;
  }();
  const auto found = index.find(dotted_key);
  return found == index.end() ? nullptr : found->second;
}

std::string unknown_key_message(std::string_view key, std::string_view path) {
  std::string message = "unknown key " + quote(key) + (path.empty() ? "" : " in " + std::string(path));
  const std::string prefix = path.empty() ? "" : std::string(path) + ".";
  std::vector<std::string_view> siblings;
  std::vector<std::string_view> elsewhere;  // dotted keys that end alike
  for (const FieldInfo& field : experiment_fields()) {
    const std::string_view dotted = field.key;
    if (dotted.starts_with(prefix) && dotted.find('.', prefix.size()) == std::string_view::npos)
      siblings.push_back(dotted.substr(prefix.size()));
    if (dotted.size() > key.size() && dotted.ends_with(key) && dotted[dotted.size() - key.size() - 1] == '.')
      elsewhere.push_back(dotted);
  }
  if (path.empty()) siblings.push_back("sweep");
  if (find_field(prefix + std::string(key)) != nullptr) {
    return message + "; inside the file it is written in its section (dotted keys belong to sweep and --set)";
  }
  if (const std::string_view near = nearest(key, siblings); !near.empty())
    return message + "; did you mean \"" + std::string(near) + "\"?";
  if (!elsewhere.empty() && elsewhere.size() <= 4) return message + "; did you mean " + join(elsewhere, " or ") + "?";
  return message + "; allowed: " + join(siblings);
}

void read_spec(const Node& root, ExperimentSpec& spec, Problems& problems) {
  SpecReader(problems).read_section(root, "", spec);
}

void set_field(ExperimentSpec& spec, std::string_view dotted_key, const Node& value, Problems& problems) {
  SpecReader reader(problems);
  const bool steps_given = spec.train.steps.has_value();
  with_field(
      spec, dotted_key,
      [](auto& section) {
        if (!section) section = unset_schedule();
        return &*section;
      },
      [&](const Field& field, auto& member) { reader.read(value, std::string(dotted_key), field, member); });
  // One of the two counts: the one that is set last.
  if (steps_given && dotted_key == "train.epochs") spec.train.steps.reset();
}

std::string field_text(const ExperimentSpec& spec, std::string_view dotted_key) {
  return value_of(spec, dotted_key, false);
}

std::string field_label(const ExperimentSpec& spec, std::string_view dotted_key) {
  return value_of(spec, dotted_key, true);
}

}  // namespace tenfold
