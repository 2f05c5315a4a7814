#include "runner/job_time.h"

#include <charconv>
#include <cstdlib>
#include <string>
#include <vector>

namespace tenfold {
namespace {

std::optional<double> number(std::string_view text) {
  long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || text.size() > 7) return std::nullopt;
  return static_cast<double>(value);
}

}  // namespace

std::optional<std::chrono::steady_clock::time_point> job_end(double time_limit_s) {
  using Clock = std::chrono::steady_clock;
  double left_s = time_limit_s;
  if (left_s <= 0) {
    const char* end = std::getenv("SLURM_JOB_END_TIME");
    if (!end || !*end) return std::nullopt;
    const double at = std::strtod(end, nullptr);
    if (!(at > 0)) return std::nullopt;
    left_s = at - std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  }
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(left_s));
}

std::optional<double> parse_slurm_time(std::string_view text) {
  double days = 0;
  const auto dash = text.find('-');
  if (dash != std::string_view::npos) {
    const auto before = number(text.substr(0, dash));
    if (!before) return std::nullopt;
    days = *before;
    text.remove_prefix(dash + 1);
  }
  std::vector<double> parts;
  for (;;) {
    const auto colon = text.find(':');
    const auto part = number(text.substr(0, colon));
    if (!part || parts.size() == 3) return std::nullopt;
    parts.push_back(*part);
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon + 1);
  }
  double s = days * 86400;
  if (dash != std::string_view::npos) {  // hours come first
    parts.resize(3, 0);
    return s + parts[0] * 3600 + parts[1] * 60 + parts[2];
  }
  if (parts.size() == 1) return parts[0] * 60;
  if (parts.size() == 2) return parts[0] * 60 + parts[1];
  return parts[0] * 3600 + parts[1] * 60 + parts[2];
}

}  // namespace tenfold
