#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace tenfold {

class Problems;

// Where a value was written: line and column from 1, in one of Problems' sources.
struct Mark {
  std::int32_t source = 0;
  std::int32_t line = 0;
  std::int32_t column = 0;
  auto operator<=>(const Mark&) const = default;
};

struct NodeKey {
  std::string text;
  Mark mark;
};

// A YAML or JSON value with the place where it was written. Plain scalars keep their text: what they mean is
// decided by the field that they are read into.
struct Node {
  enum class Kind : std::uint8_t { null, scalar, sequence, map };
  Kind kind = Kind::null;
  bool quoted = false;  // a scalar that is text whatever it looks like
  Mark mark;
  std::string text;           // scalar
  std::vector<NodeKey> keys;  // map: key i belongs to item i
  std::vector<Node> items;    // sequence, map

  bool is_null() const { return kind == Kind::null; }
  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_sequence() const { return kind == Kind::sequence; }
  bool is_map() const { return kind == Kind::map; }
  const Node* find(std::string_view key) const;  // of a map; null when absent
};

// Bounds on what a file may make us hold; an experiment file is hand-written and far below them.
inline constexpr std::size_t kMaxYamlBytes = std::size_t{4} << 20;
inline constexpr std::size_t kMaxYamlNodes = 500'000;  // after aliases are expanded
inline constexpr int kMaxYamlDepth = 32;

// One YAML document. Duplicate keys, tags and keys that are not text are added to `problems`. Throws Error(config)
// with its position when the text is no YAML at all or leaves the bounds.
Node parse_yaml(std::string_view text, std::int32_t source, Problems& problems);

// Numbers and booleans become plain scalars, texts quoted ones. `depth` is bounded as in parse_yaml.
Node node_of_json(const nlohmann::json& json);

// One line of YAML flow style; texts are quoted where they would be read as something else.
std::string flow_text(const Node& node);
std::string flow_scalar(std::string_view text);

// The same for people: no quotes and no blanks, as in labels.
std::string plain_text(const Node& node);

}  // namespace tenfold
