#include "trainer/group_settings.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string>

#include "experiments/error.h"

namespace tenfold {
namespace {

// 0 where the variable is not set.
double positive(const char* name, double most) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return 0;
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (*end != '\0' || !(value > 0) || value > most)
    throw Error(ErrorKind::config, std::string(name) + ": '" + text + "' is not a number above 0");
  return value;
}

void set_time(const char* name, std::chrono::milliseconds& time) {
  if (const double seconds = positive(name, 1e6); seconds > 0)
    time = std::chrono::milliseconds(std::max<std::int64_t>(1, std::llround(seconds * 1000)));
}

}  // namespace

GroupSettings GroupSettings::from_environment() {
  GroupSettings settings;
  set_time("TENFOLD_GROUP_SILENCE_S", settings.times.silence);
  set_time("TENFOLD_GROUP_STALL_S", settings.times.stall);
  if (const double bytes = positive("TENFOLD_BUCKET_BYTES", 1e15); bytes > 0)
    settings.bucket_bytes = std::max<std::int64_t>(1, std::llround(bytes));
  return settings;
}

}  // namespace tenfold
