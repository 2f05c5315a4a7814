#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "experiments/document.h"
#include "experiments/field_access.h"
#include "experiments/problems.h"
#include "experiments/spec_access.h"

namespace tenfold {

// Reads nodes into sections along the field list. What is wrong becomes a problem, and the member keeps its value.
class SpecReader {
 public:
  explicit SpecReader(Problems& problems) : problems_(problems) {}

  template <Section S>
  void read_section(const Node& node, const std::string& path, S& section) {
    if (node.is_null()) return;  // `resources:` with nothing below
    if (!node.is_map()) {
      read_short_form(node, path, section);
      return;
    }
    std::vector<bool> known(node.keys.size(), false);
    Fields<S>::visit([&](const Field& field, auto member) {
      for (std::size_t i = 0; i < node.keys.size(); ++i) {
        if (node.keys[i].text != field.key) continue;
        known[i] = true;
        read(node.items[i], path.empty() ? std::string(field.key) : path + "." + std::string(field.key), field,
             section.*member);
      }
    });
    for (std::size_t i = 0; i < known.size() && !problems_.full(); ++i)
      if (!known[i] && !(path.empty() && node.keys[i].text == "sweep"))
        problems_.add(node.keys[i].mark, unknown_key_message(node.keys[i].text, path));
  }

  template <class T>
  void read(const Node& node, const std::string& path, const Field& field, T& value) {
    if constexpr (Section<T>)
      read_section(node, path, value);
    else if constexpr (OptionalValue<T>)
      read_optional(node, path, field, value);
    else if constexpr (ListValue<T>)
      read_list(node, path, field, value);
    else if (node.is_scalar())
      read_scalar(node, path, field, value);
    else
      problems_.add(node.mark, path + " wants " + expected(field, value) + ", not " + described(node));
  }

 private:
  template <Section S>
  void read_short_form(const Node& node, const std::string& path, S& section) {
    bool done = false;
    if (node.is_scalar())
      Fields<S>::visit([&](const Field& field, auto member) {
        if (done || !field.shorthand) return;
        read(node, path, field, section.*member);
        done = true;
      });
    if (!done)
      problems_.add(node.mark, (path.empty() ? "the file" : path) + " wants keys and values, not " + described(node));
  }

  template <class T>
  void read_optional(const Node& node, const std::string& path, const Field& field, std::optional<T>& value) {
    if (node.is_null() || (node.is_scalar() && !field.unset_word.empty() && node.text == field.unset_word)) {
      value.reset();
      return;
    }
    T inner{};
    if constexpr (std::is_same_v<T, ScheduleSpec>) inner = value ? *value : unset_schedule();
    read(node, path, field, inner);
    value = std::move(inner);
  }

  template <class T>
  void read_list(const Node& node, const std::string& path, const Field& field, std::vector<T>& value) {
    std::vector<T> items;
    const auto read_item = [&](const Node& item) {
      T element{};
      if constexpr (std::is_same_v<T, std::string>) {
        // In flow style an unquoted layers:[0, 1] reads as a map of one key.
        if (field.patterns && item.is_map() && item.keys.size() == 1 && item.items[0].is_sequence()) {
          items.push_back(item.keys[0].text + ":" + plain_text(item.items[0]));
          return;
        }
      }
      read(item, path, field, element);
      items.push_back(std::move(element));
    };
    if (node.is_sequence())
      for (const Node& item : node.items) read_item(item);
    else if (node.is_null())
      problems_.add(node.mark, path + " is empty: give a list");
    else
      read_item(node);  // one value is a list of one
    if constexpr (std::is_same_v<T, std::string>) {
      std::vector<std::string> sorted = items;
      std::sort(sorted.begin(), sorted.end());
      const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
      if (twice != sorted.end()) problems_.add(node.mark, path + " names " + quote(*twice) + " twice");
    }
    value = std::move(items);
  }

  void read_scalar(const Node& node, const std::string& path, const Field& field, std::string& value) {
    if (node.text.empty() && value.empty()) return;  // not given, as in the JSON of a specification without it
    if (!field.allowed.empty() &&
        std::find(field.allowed.begin(), field.allowed.end(), node.text) == field.allowed.end())
      problems_.add(node.mark, path + " is " + quote(node.text) + "; allowed: " + join(field.allowed) +
                                   did_you_mean(node.text, field.allowed));
    else if (node.text.size() > 4096)
      problems_.add(node.mark, path + " is longer than 4096 bytes");
    else
      value = node.text;
  }
  void read_scalar(const Node& node, const std::string& path, const Field&, bool& value) {
    if (!node.quoted && (node.text == "true" || node.text == "false"))
      value = node.text == "true";
    else
      problems_.add(node.mark, path + " is " + quote(node.text) + "; allowed: true, false");
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  void read_scalar(const Node& node, const std::string& path, const Field& field, T& value) {
    if (!field.zero_word.empty() && node.text == field.zero_word) {
      value = T{};
      return;
    }
    T number{};
    std::string_view text = node.text;
    if (text.starts_with('+')) text.remove_prefix(1);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool whole_text = end == text.data() + text.size() && !text.empty();
    bool fine = error == std::errc() && whole_text && !node.quoted;
    if constexpr (std::is_floating_point_v<T>) fine = fine && std::isfinite(number);
    if (!fine) {
      std::string why = node.quoted ? " (in quotes it is a text)" : "";
      if (error == std::errc::result_out_of_range && whole_text) why = " (out of range)";
      problems_.add(node.mark, path + " wants " + expected(field, value) + ", not " + quote(node.text) + why);
      return;
    }
    const auto as_double = static_cast<double>(number);
    if (as_double < field.minimum || as_double > field.maximum || (field.above_minimum && as_double == field.minimum) ||
        (field.below_maximum && as_double == field.maximum)) {
      problems_.add(node.mark, path + " is " + scalar_text(number) + "; allowed: " + allowed_range(field));
      return;
    }
    value = number;
  }

  template <class T>
  static std::string expected(const Field& field, const T&) {
    std::string out = "a number";
    if constexpr (std::is_same_v<T, std::string>) out = "a text";
    if constexpr (std::is_same_v<T, bool>) out = "true or false";
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) out = "a whole number";
    if (!field.allowed.empty()) out = "one of " + join(field.allowed);
    for (const std::string_view word : {field.zero_word, field.unset_word})
      if (!word.empty()) out += " or " + std::string(word);
    return out;
  }
  static std::string described(const Node& node) {
    switch (node.kind) {
      case Node::Kind::null:
        return "nothing";
      case Node::Kind::scalar:
        return quote(node.text);
      case Node::Kind::sequence:
        return "a list";
      case Node::Kind::map:
        return "keys and values";
    }
    return "this";
  }
  static std::string allowed_range(const Field& field);

  Problems& problems_;
};

}  // namespace tenfold
