#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "experiments/error.h"

// JSON of the protocol, read strictly: a field that is missing, of another type or out of range is an
// Error(communication). For the protocol's own sources.
namespace tenfold::protocol_json {

using nlohmann::json;

[[noreturn]] inline void fail(const std::string& what) { throw Error(ErrorKind::communication, what); }

inline const json& field(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) fail(std::string("a message without its field '") + key + "'");
  return *found;
}

template <class Integer>
Integer integer(const json& object, const char* key) {
  const json& value = field(object, key);
  if (!value.is_number_integer()) fail(std::string("field '") + key + "' of a message is not an integer");
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Integer>::max()))
    fail(std::string("field '") + key + "' of a message is out of range");
  const auto wide = value.get<std::int64_t>();
  if (wide < std::numeric_limits<Integer>::min() || wide > std::numeric_limits<Integer>::max())
    fail(std::string("field '") + key + "' of a message is out of range");
  return static_cast<Integer>(wide);
}

inline double number(const json& object, const char* key) {
  const json& value = field(object, key);
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value.is_number()) fail(std::string("field '") + key + "' of a message is not a number");
  return value.get<double>();
}

inline bool boolean(const json& object, const char* key) {
  const json& value = field(object, key);
  if (!value.is_boolean()) fail(std::string("field '") + key + "' of a message is neither true nor false");
  return value.get<bool>();
}

inline std::string text(const json& object, const char* key) {
  const json& value = field(object, key);
  if (!value.is_string()) fail(std::string("field '") + key + "' of a message is not a text");
  return value.get<std::string>();
}

inline const json& list(const json& object, const char* key) {
  const json& value = field(object, key);
  if (!value.is_array()) fail(std::string("field '") + key + "' of a message is not a list");
  return value;
}

inline json parse_object(std::string_view bytes, const char* what) {
  json parsed = json::parse(bytes, nullptr, false);
  if (!parsed.is_object()) fail(std::string("a message that should be ") + what + " is not a JSON object");
  return parsed;
}

// `json` and null for NaN and infinities, which JSON cannot say.
inline json finite_or_null(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

// Reasons come from libraries and may hold any bytes; they are for people, so what is no UTF-8 is replaced.
inline std::string dump_for_people(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Paths must arrive as they were sent.
inline std::string dump_exactly(const json& value) {
  try {
    return value.dump();
  } catch (const json::exception&) {
    throw Error(
        ErrorKind::config,
        "a path or name is not valid UTF-8 and cannot be sent to the trainer: rename the folder or use another");
  }
}

}  // namespace tenfold::protocol_json
