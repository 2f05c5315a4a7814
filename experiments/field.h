#pragma once

#include <limits>
#include <span>
#include <string_view>

// One key of the experiment file, as the lists in spec_fields.h, data_fields.h and model_fields.h describe it.
namespace tenfold {

struct Field {
  std::string_view key;
  std::string_view doc;
  std::span<const std::string_view> allowed = {};  // of a text, or of each text of a list; empty: any
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool above_minimum = false;        // the minimum itself is not allowed
  bool below_maximum = false;        // the maximum itself is not allowed
  std::string_view unset_word = {};  // how an absent optional value is written, e.g. clip_norm: none
  std::string_view zero_word = {};   // how 0 is written, e.g. query_size: all
  bool shorthand = false;            // `section: value` is short for `section: {key: value}`
  bool patterns = false;             // a list of parameter patterns, in which layers:[0, 1] is one text
  // Identities leave out a key that equals the default it had when it was introduced, so that a new key does not
  // make old results stale. When a default changes, the old one is kept here (as YAML flow text).
  std::string_view introduced_as = {};

  constexpr Field one_of(std::span<const std::string_view> values) const {
    Field f = *this;
    f.allowed = values;
    return f;
  }
  constexpr Field at_least(double value) const {
    Field f = *this;
    f.minimum = value;
    return f;
  }
  constexpr Field above(double value) const {
    Field f = at_least(value);
    f.above_minimum = true;
    return f;
  }
  constexpr Field at_most(double value) const {
    Field f = *this;
    f.maximum = value;
    return f;
  }
  constexpr Field below(double value) const {
    Field f = at_most(value);
    f.below_maximum = true;
    return f;
  }
  constexpr Field or_unset(std::string_view word) const {
    Field f = *this;
    f.unset_word = word;
    return f;
  }
  constexpr Field or_zero(std::string_view word) const {
    Field f = *this;
    f.zero_word = word;
    return f;
  }
  constexpr Field short_form() const {
    Field f = *this;
    f.shorthand = true;
    return f;
  }
  constexpr Field of_patterns() const {
    Field f = *this;
    f.patterns = true;
    return f;
  }
};

// Specialised for every struct that is a section of the file.
template <class T>
struct Fields;
template <class T>
concept Section = requires {
  sizeof(Fields<T>);
};

}  // namespace tenfold
