#include "datasets/label_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "experiments/error.h"

namespace tenfold {

bool parse_number(std::string_view text, double& value) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || text.empty()) return false;
  if (code == std::errc::result_out_of_range) {
    // Too small is 0 for our purposes; too large is infinite, and refused by who wanted the number.
    const std::size_t exponent = text.find_first_of("eE");
    const bool small = exponent != std::string_view::npos
                           ? exponent + 1 < text.size() && text[exponent + 1] == '-'
                           : text.find('.') != std::string_view::npos && text.find_first_not_of("-0.") > 300;
    value = small ? 0.0 : (text[0] == '-' ? -INFINITY : INFINITY);
    return true;
  }
  return code == std::errc();
}

std::string LabelTable::number_name(double value) {
  if (value == 0) value = 0;  // no "-0"
  char text[32];
  const auto [end, code] = std::to_chars(text, text + sizeof text, value);
  return code == std::errc() ? std::string(text, end) : std::to_string(value);
}

std::int64_t LabelTable::code(std::string_view name) {
  const auto [place, added] = codes_.try_emplace(std::string(name), static_cast<std::int64_t>(names_.size()));
  if (added) names_.emplace_back(name);
  return place->second;
}

LabelTable::Sorted LabelTable::finish() const {
  std::vector<double> values(names_.size());
  bool all_numbers = true;
  for (std::size_t i = 0; i < names_.size(); ++i)
    all_numbers = all_numbers && parse_number(names_[i], values[i]) && std::isfinite(values[i]);
  std::vector<std::size_t> order(names_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (all_numbers && values[a] != values[b]) return values[a] < values[b];
    return names_[a] < names_[b];
  });
  Sorted sorted;
  sorted.position.resize(names_.size());
  for (const std::size_t i : order) {
    const std::string name = all_numbers ? number_name(values[i]) : names_[i];
    if (sorted.names.empty() || sorted.names.back() != name) sorted.names.push_back(name);
    sorted.position[i] = static_cast<std::int64_t>(sorted.names.size()) - 1;
  }
  return sorted;
}

void renumber(std::vector<std::int64_t>& codes, const std::vector<std::int64_t>& position) {
  for (std::int64_t& code : codes) code = position[static_cast<std::size_t>(code)];
}

void require_classes(std::size_t classes, std::int64_t samples, const std::string& where) {
  constexpr std::size_t kMany = 10'000;
  if (classes < 2)
    throw Error(ErrorKind::data, where + ": there is " + (classes == 0 ? "no class" : "only one class") +
                                     " in it; to classify takes at least two");
  if (classes > kMany)
    throw Error(ErrorKind::data, where + ": " + std::to_string(classes) + " different labels in " +
                                     std::to_string(samples) + " samples are more than the " + std::to_string(kMany) +
                                     " classes allowed; is this the right column or array?");
}

}  // namespace tenfold
