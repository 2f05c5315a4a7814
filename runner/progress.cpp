#include "runner/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr int kBarCells = 20;
constexpr int kFallbackWidth = 80;
constexpr auto kLogInterval = std::chrono::minutes(1);
constexpr double kLongestEta_s = 100.0 * 24 * 3600;  // beyond it the figure says nothing

// JSON has no NaN.
nlohmann::json number_or_null(double value) { return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(); }

double number_or_nan(const nlohmann::json& json, const char* key) {
  const nlohmann::json& value = json.at(key);
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

std::string with_thousands(std::int64_t value) {
  std::string digits = std::to_string(std::max<std::int64_t>(value, 0));
  for (auto place = static_cast<std::int64_t>(digits.size()) - 3; place > 0; place -= 3) {
    digits.insert(static_cast<std::size_t>(place), 1, ',');
  }
  return digits;
}

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  char text[48];
  if (whole >= 24 * 3600) {
    std::snprintf(text, sizeof text, "%lldd %02lldh", static_cast<long long>(whole / 86400),
                  static_cast<long long>(whole % 86400 / 3600));
  } else if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", static_cast<long long>(whole / 3600),
                  static_cast<long long>(whole % 3600 / 60), static_cast<long long>(whole % 60));
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", static_cast<long long>(whole / 60),
                  static_cast<long long>(whole % 60));
  }
  return text;
}

std::string bar(const ProgressSnapshot& s) {
  const std::int64_t units = s.fits_total + s.trials_total;
  const std::int64_t finished = s.fits_done + s.trials_done + s.trials_failed;
  const std::int64_t filled =
      units > 0 ? std::clamp<std::int64_t>(finished * kBarCells / units, 0, kBarCells) : std::int64_t{0};
  std::string cells(kBarCells, '.');
  std::fill_n(cells.begin(), filled, '#');
  return '[' + cells + ']';
}

bool complete(const ProgressSnapshot& s) {
  return s.trials_total > 0 && s.trials_done + s.trials_failed >= s.trials_total;
}

void append_loss(std::string& text, const char* name, double value) {
  if (!std::isfinite(value)) return;
  char number[48];
  std::snprintf(number, sizeof number, "%s%s %.3f", text.empty() ? "" : " ", name, value);
  text += number;
}

int terminal_width(int fd) {
  winsize size{};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kFallbackWidth;
}

// Progress is a courtesy: a closed pipe or a full disk under a log must not end a run.
void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

bool has_losses(const Progress& progress) { return progress.steps > 0 && std::isfinite(progress.total); }

std::string encode(const ProgressSnapshot& s) {
  const nlohmann::json json = {{"fits_total", s.fits_total},
                               {"fits_done", s.fits_done},
                               {"trials_total", s.trials_total},
                               {"trials_done", s.trials_done},
                               {"trials_failed", s.trials_failed},
                               {"arrays_running", s.arrays_running},
                               {"slots", s.slots},
                               {"slots_busy", s.slots_busy},
                               {"updates_per_s", number_or_null(s.updates_per_s)},
                               {"eta_s", number_or_null(s.eta_s)},
                               {"total", number_or_null(s.total)},
                               {"entropy", number_or_null(s.entropy)},
                               {"diversity", number_or_null(s.diversity)},
                               {"elapsed_s", number_or_null(s.elapsed_s)}};
  return json.dump();
}

ProgressSnapshot decode_snapshot(const std::string& text) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    ProgressSnapshot s;
    s.fits_total = json.at("fits_total").get<std::int64_t>();
    s.fits_done = json.at("fits_done").get<std::int64_t>();
    s.trials_total = json.at("trials_total").get<std::int64_t>();
    s.trials_done = json.at("trials_done").get<std::int64_t>();
    s.trials_failed = json.at("trials_failed").get<std::int64_t>();
    s.arrays_running = json.at("arrays_running").get<std::int64_t>();
    s.slots = json.at("slots").get<std::int64_t>();
    s.slots_busy = json.at("slots_busy").get<std::int64_t>();
    s.updates_per_s = number_or_nan(json, "updates_per_s");
    s.eta_s = number_or_nan(json, "eta_s");
    s.total = number_or_nan(json, "total");
    s.entropy = number_or_nan(json, "entropy");
    s.diversity = number_or_nan(json, "diversity");
    s.elapsed_s = number_or_nan(json, "elapsed_s");
    return s;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::communication, std::string("malformed progress from the coordinator: ") + error.what());
  }
}

std::string progress_line(const ProgressSnapshot& s, int width) {
  // By importance: what does not fit is left out from the end, a part at a time.
  std::vector<std::string> parts;
  const std::string counts = std::to_string(s.trials_done) + "/" + std::to_string(s.trials_total) + " trials";
  parts.push_back(counts + ", " + std::to_string(s.fits_done) + "/" + std::to_string(s.fits_total) + " fits");
  if (s.trials_failed > 0) parts.push_back(std::to_string(s.trials_failed) + " failed");
  if (!complete(s)) {
    parts.push_back(std::to_string(s.arrays_running) + " running" +
                    (s.slots_busy > s.arrays_running ? " on " + std::to_string(s.slots_busy) + " slots" : ""));
    if (std::isfinite(s.updates_per_s) && s.updates_per_s > 0) {  // 0: nothing has come back yet
      parts.push_back(with_thousands(std::llround(std::min(s.updates_per_s, 1e15))) + " steps/s");
    }
    if (s.eta_s >= 0 && s.eta_s < kLongestEta_s) parts.push_back("ETA " + duration(s.eta_s));
  } else if (std::isfinite(s.elapsed_s)) {
    parts.push_back("took " + duration(s.elapsed_s));
  }
  std::string losses;
  append_loss(losses, "total", s.total);
  append_loss(losses, "entropy", s.entropy);
  append_loss(losses, "diversity", s.diversity);
  if (!losses.empty()) parts.push_back(losses);

  const auto room = static_cast<std::size_t>(std::max(width, 0));
  std::string line = bar(s) + ' ' + parts.front();
  if (line.size() > room) return counts.size() <= room ? counts : counts.substr(0, room);
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (line.size() + 2 + parts[i].size() > room) break;
    line.append(", ").append(parts[i]);
  }
  return line;
}

ProgressView::ProgressView(int fd, bool quiet) : fd_(fd), terminal_(isatty(fd) == 1), quiet_(quiet) {}

ProgressView::~ProgressView() {
  if (drawn_) write_all(fd_, "\n");
}

void ProgressView::show(const ProgressSnapshot& snapshot) {
  if (quiet_) return;
  if (terminal_) {
    // The last column stays free: filling it wraps the line on some terminals, and a wrapped bar is not erased.
    write_all(fd_, "\r\x1b[2K" + progress_line(snapshot, terminal_width(fd_) - 1));
    drawn_ = true;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  const bool first = last_line_ == std::chrono::steady_clock::time_point{};
  const bool finished = complete(snapshot) && !finished_;
  if (!first && !finished && now - last_line_ < kLogInterval) return;
  finished_ = finished_ || finished;
  last_line_ = now;
  write_all(fd_, progress_line(snapshot, std::numeric_limits<int>::max()) + "\n");
}

void ProgressView::note(const std::string& line) {
  std::string text;
  if (drawn_) text += "\r\x1b[2K";  // the next show() draws the bar again, below
  text += line + "\n";
  write_all(fd_, text);
  drawn_ = false;
}

}  // namespace tenfold
