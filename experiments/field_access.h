#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "experiments/number_text.h"
#include "experiments/spec_fields.h"

// Templates over the field list that several files here share.
namespace tenfold {

template <class T>
struct OptionalOf : std::false_type {};
template <class T>
struct OptionalOf<std::optional<T>> : std::true_type {};
template <class T>
struct ListOf : std::false_type {};
template <class T>
struct ListOf<std::vector<T>> : std::true_type {};
template <class T>
concept OptionalValue = OptionalOf<T>::value;
template <class T>
concept ListValue = ListOf<T>::value;

// Calls f(field, member) for the dotted key inside `section`; false when there is no such key. Keys of an unset
// optional section reach f through `make(optional)`, which returns the section or null to give up.
template <class S, class Make, class F>
requires Section<std::remove_const_t<S>>
bool with_field(S& section, std::string_view key, const Make& make, const F& f) {
  const std::size_t dot = key.find('.');
  const std::string_view head = key.substr(0, dot);
  bool found = false;
  Fields<std::remove_const_t<S>>::visit([&](const Field& field, auto member) {
    if (found || field.key != head) return;
    auto& value = section.*member;
    using T = std::remove_cvref_t<decltype(value)>;
    if (dot == std::string_view::npos) {
      f(field, value);
      found = true;
    } else if constexpr (Section<T>) {
      found = with_field(value, key.substr(dot + 1), make, f);
    } else if constexpr (OptionalValue<T>) {
      if constexpr (Section<typename T::value_type>) {
        if (auto* inner = make(value)) found = with_field(*inner, key.substr(dot + 1), make, f);
      }
    }
  });
  return found;
}

template <class T>
std::string scalar_text(const T& value) {
  if constexpr (std::is_same_v<T, std::string>)
    return value;
  else if constexpr (std::is_same_v<T, bool>)
    return value ? "true" : "false";
  else if constexpr (std::is_same_v<T, double>)
    return number_text(value);
  else
    return std::to_string(value);
}

}  // namespace tenfold
