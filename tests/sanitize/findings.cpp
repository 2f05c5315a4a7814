// A program whose child does what a sanitizer finds, and that ends well itself, as the product does after a trainer's
// crash.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>

namespace {

volatile int shared = INT_MAX;
int* volatile kept = nullptr;

void err(const std::string& kind) {
  if (kind == "leak") {
    kept = new int[100];
    kept = nullptr;
  } else if (kind == "heap") {
    kept = new int(1);
    delete kept;
    shared = *kept;  // NOLINT: what the sanitizer is to find
  } else if (kind == "library") {
    const std::streamsize more = 64 + (shared & 1);
    kept = new int(1);
    std::ostringstream text;
    text.write(reinterpret_cast<const char*>(kept), more);  // copied by code of libstdc++
  } else if (kind == "undefined") {
    shared = shared + 1;
  } else if (kind == "wild") {
    kept = reinterpret_cast<int*>(64);
    shared = *kept;
  } else if (kind == "race") {
    std::thread other([] { shared = 1; });
    shared = 2;
    other.join();
  } else if (kind == "provoked") {
    ::signal(SIGSEGV, SIG_DFL);
    ::raise(SIGSEGV);
  }
}

}  // namespace

int main(int, char** words) {
  const pid_t child = ::fork();
  if (child == 0) {
    err(words[1]);
    std::exit(0);
  }
  ::waitpid(child, nullptr, 0);
  return 0;
}
