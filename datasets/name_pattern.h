#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace tenfold {

// `dataset.file_pattern`: a regular expression (PCRE2) that a whole name must match. Its groups (?<label>...) and,
// where it has one, (?<group>...) are what the name says.
class NamePattern {
 public:
  explicit NamePattern(const std::string& pattern);  // throws Error(config) where it is wrong, or has no group `label`

  bool has_group() const { return has_group_; }
  struct Match {
    std::string label, group;
  };
  // Nothing where the name does not match, or leaves the label or the group empty. Throws Error(config) where the
  // pattern takes too many steps to tell.
  std::optional<Match> match(std::string_view name) const;

 private:
  std::string text_;
  std::shared_ptr<const void> code_;  // pcre2_code
  bool has_group_ = false;
};

}  // namespace tenfold
