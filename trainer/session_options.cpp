#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <string>

#include "experiments/error.h"
#include "trainer/session.h"

namespace tenfold {

SessionOptions SessionOptions::from_environment() {
  SessionOptions options;
  if (const char* text = std::getenv("TENFOLD_ALIVE_TIMEOUT_S"); text != nullptr && *text != '\0') {
    char* end = nullptr;
    const double seconds = std::strtod(text, &end);
    if (*end != '\0' || !(seconds > 0) || seconds > 1e6)
      throw Error(ErrorKind::config, std::string("TENFOLD_ALIVE_TIMEOUT_S: '") + text + "' is not a number of seconds");
    options.alive_timeout = std::chrono::milliseconds(std::max<std::int64_t>(1, std::llround(seconds * 1000)));
  }
  return options;
}

void die_with_parent(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (parent > 0 && getppid() != parent) _exit(exit_code(ErrorKind::communication));
}

}  // namespace tenfold
