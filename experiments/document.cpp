#include "experiments/document.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "experiments/error.h"
#include "experiments/number_text.h"

namespace tenfold {
namespace {

Node convert(const nlohmann::json& json, int depth) {
  if (depth > kMaxYamlDepth)
    throw Error(ErrorKind::config, "a specification nested more than " + std::to_string(kMaxYamlDepth) + " deep");
  Node node;
  if (json.is_null()) return node;
  if (json.is_object()) {
    node.kind = Node::Kind::map;
    for (const auto& [key, value] : json.items()) {
      node.keys.push_back({key, {}});
      node.items.push_back(convert(value, depth + 1));
    }
  } else if (json.is_array()) {
    node.kind = Node::Kind::sequence;
    for (const auto& value : json) node.items.push_back(convert(value, depth + 1));
  } else {
    node.kind = Node::Kind::scalar;
    node.quoted = json.is_string();
    if (json.is_string())
      node.text = json.get<std::string>();
    else if (json.is_boolean())
      node.text = json.get<bool>() ? "true" : "false";
    else if (json.is_number_unsigned())
      node.text = std::to_string(json.get<std::uint64_t>());
    else if (json.is_number_integer())
      node.text = std::to_string(json.get<std::int64_t>());
    else if (json.is_number_float())
      node.text = number_text(json.get<double>());
    else
      throw Error(ErrorKind::config, "a specification holds a value that is no JSON");
  }
  return node;
}

template <class Scalar>
std::string text_of(const Node& node, std::string_view separator, std::string_view colon, const Scalar& scalar) {
  switch (node.kind) {
    case Node::Kind::null:
      return "null";
    case Node::Kind::scalar:
      return scalar(node.text);
    default:
      break;
  }
  const bool map = node.is_map();
  std::string out = map ? "{" : "[";
  for (std::size_t i = 0; i < node.items.size(); ++i) {
    if (i > 0) out += separator;
    if (map) out += scalar(node.keys[i].text) + std::string(colon);
    out += text_of(node.items[i], separator, colon, scalar);
  }
  return out + (map ? "}" : "]");
}

}  // namespace

const Node* Node::find(std::string_view key) const {
  for (std::size_t i = 0; i < keys.size(); ++i)
    if (keys[i].text == key) return &items[i];
  return nullptr;
}

Node node_of_json(const nlohmann::json& json) { return convert(json, 0); }

std::string flow_scalar(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  const bool plain = !text.empty() &&
                     (letter(text.front()) || text.front() == '.' || text.front() == '_' ||
                      (text.front() == '-' && text.size() > 1 && letter(text[1]))) &&
                     text.back() != ':' && std::all_of(text.begin(), text.end(), [&](char c) {
                       return letter(c) || std::string_view("_.:-+*/").find(c) != std::string_view::npos;
                     });
  const bool null_word = text == "null" || text == "Null" || text == "NULL";
  return plain && !null_word ? std::string(text)
                             : nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string flow_text(const Node& node) {
  return text_of(node, ", ", ": ", [](const std::string& text) { return flow_scalar(text); });
}

std::string plain_text(const Node& node) {
  return text_of(node, ",", ":", [](const std::string& text) { return text; });
}

}  // namespace tenfold
