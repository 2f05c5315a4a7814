#include "datasets/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::uint32_t kMostSteps = 1'000'000;  // a name takes some dozens; nested repetition takes 2^length
constexpr std::size_t kMostBytes = 10'000;

[[noreturn]] void fail(const std::string& pattern, const std::string& what) {
  throw Error(ErrorKind::config, "dataset.file_pattern: '" + pattern + "' " + what);
}

std::string message_of(int code) {
  unsigned char text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

const unsigned char* units(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }
const unsigned char* units(const char* text) { return reinterpret_cast<const unsigned char*>(text); }

template <class T, void (*release)(T*)>
struct Release {
  void operator()(T* handle) const { release(handle); }
};
using MatchData = std::unique_ptr<pcre2_match_data, Release<pcre2_match_data, pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Release<pcre2_match_context, pcre2_match_context_free>>;

std::string named(pcre2_match_data* data, const char* name) {
  unsigned char* text = nullptr;
  std::size_t length = 0;
  if (pcre2_substring_get_byname(data, units(name), &text, &length) != 0) return {};
  std::string result(reinterpret_cast<const char*>(text), length);
  pcre2_substring_free(text);
  return result;
}

}  // namespace

NamePattern::NamePattern(const std::string& pattern) : text_(pattern) {
  if (pattern.size() > kMostBytes) fail(pattern.substr(0, 60) + "...", "is longer than any pattern of names");
  int error = 0;
  std::size_t at = 0;
  // Names of files need not be UTF-8, but a pattern's classes should not cut characters where they are.
  pcre2_code* code =
      pcre2_compile(units(pattern), pattern.size(),
                    PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF | PCRE2_MATCH_INVALID_UTF | PCRE2_NEVER_BACKSLASH_C,
                    &error, &at, nullptr);
  if (code == nullptr)
    fail(pattern,
         "is not a regular expression: " + message_of(error) + " (at character " + std::to_string(at + 1) + ")");
  code_ = std::shared_ptr<const void>(
      code, [](const void* c) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(c))); });
  const auto has = [&](const char* name) {
    return pcre2_substring_number_from_name(code, units(name)) != PCRE2_ERROR_NOSUBSTRING;
  };
  if (!has("label")) fail(pattern, "has no group (?<label>...), which tells the class of a file");
  has_group_ = has("group");
}

std::optional<NamePattern::Match> NamePattern::match(std::string_view name) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const MatchData data(pcre2_match_data_create_from_pattern(code, nullptr));
  const MatchContext context(pcre2_match_context_create(nullptr));
  if (data == nullptr || context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(context.get(), kMostSteps);
  const int found = pcre2_match(code, units(name), name.size(), 0, 0, data.get(), context.get());
  if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (found < 0)
    fail(text_, "cannot be matched with '" + std::string(name) + "': " + message_of(found) +
                    "; write it without repetitions inside repetitions");
  Match result{named(data.get(), "label"), named(data.get(), "group")};
  if (result.label.empty() || (has_group_ && result.group.empty())) return std::nullopt;
  return result;
}

}  // namespace tenfold
