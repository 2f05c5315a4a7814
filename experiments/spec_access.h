#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "experiments/document.h"
#include "experiments/problems.h"
#include "experiments/spec.h"

namespace tenfold {

// A key of the experiment file as documentation shows it.
struct FieldInfo {
  std::string key;  // dotted: "ttt.batch_size"
  std::string doc;
  std::string type;           // "section", "text", "number", "whole number", "true or false", "list of ..."
  std::string allowed;        // "sgd, adam, adamw", "0 and above", ...; empty: any
  std::string default_value;  // YAML flow text; empty for sections and for what has none
  std::string introduced_as;  // the default that identities leave out; default_value unless it changed
  bool section = false;
};
const std::vector<FieldInfo>& experiment_fields();         // in the order of spec_fields.h, sections before their keys
const FieldInfo* find_field(std::string_view dotted_key);  // null when there is none
// "unknown key ..." with what was probably meant; `path` is the section it stood in, empty for the top level.
std::string unknown_key_message(std::string_view key, std::string_view path);

// Reads a map of sections into `spec`; what the map leaves out keeps its value. The key "sweep" is left alone.
void read_spec(const Node& root, ExperimentSpec& spec, Problems& problems);
// Sets one dotted key; a section takes a map of some of its keys, or its short form. The key must exist.
void set_field(ExperimentSpec& spec, std::string_view dotted_key, const Node& value, Problems& problems);
// A key's value as YAML flow text, as the user would write it; "null" when unset. Sections give "".
std::string field_text(const ExperimentSpec& spec, std::string_view dotted_key);
// The same without quotes and blanks, for labels.
std::string field_label(const ExperimentSpec& spec, std::string_view dotted_key);

// An optional section of which the user gave some keys: what is not given is told from every value that is.
// method_defaults.cpp fills it.
ScheduleSpec unset_schedule();

}  // namespace tenfold
