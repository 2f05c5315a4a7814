#include "tests/fuzz/reader_apart.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

// The counters of libFuzzer's coverage, where the linker put them; null in a program without it.
extern "C" {
extern char __start___sancov_cntrs[] __attribute__((weak, visibility("hidden")));
extern char __stop___sancov_cntrs[] __attribute__((weak, visibility("hidden")));
void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
}

namespace tenfold::fuzz {
namespace {

constexpr int kInputsOfAProcess = 5'000;  // the libraries lose memory over damaged files

constexpr suseconds_t kMostMicroseconds = 100'000;  // of a core; most take a hundredth of it

// What both processes are to see; but for the first and last page, which hold other things, too.
void share_counters() {
  if (__start___sancov_cntrs == nullptr) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t from = (reinterpret_cast<std::uintptr_t>(__start___sancov_cntrs) + page - 1) / page * page;
  const std::uintptr_t to = reinterpret_cast<std::uintptr_t>(__stop___sancov_cntrs) / page * page;
  if (from >= to) return;
  char* const at = reinterpret_cast<char*>(from);
  const std::vector<char> had(at, at + (to - from));
  if (::mmap(at, to - from, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
    throw std::system_error(errno, std::generic_category(), "sharing the counters of coverage");
  std::copy(had.begin(), had.end(), at);
}

// Of libFuzzer, for its own process: in others it would write down as a finding what they are there to end with.
void quiet_crashes() {
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM, SIGINT, SIGTERM, SIGXFSZ, SIGPROF})
    ::signal(number, SIG_DFL);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(nullptr);
}

// Once, before the first fork.
void prepare_once() {
  static const bool prepared = [] {
    share_counters();
    return ::pthread_atfork(nullptr, nullptr, quiet_crashes) == 0;
  }();
  if (!prepared) throw std::runtime_error("pthread_atfork");
}

bool receive(int socket, char& byte) {
  ssize_t count = 0;
  while ((count = ::read(socket, &byte, 1)) < 0 && errno == EINTR) {
  }
  return count == 1;
}

// An input that breaks a library is not to be kept: what is made from it would break it, too.
void forget_coverage() {
  if (__start___sancov_cntrs != nullptr) std::fill(__start___sancov_cntrs, __stop___sancov_cntrs, 0);
}

bool send(int socket, const std::string& bytes) {
  return ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

}  // namespace

void ReaderApart::serve(int socket) const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (char asked = 0; receive(socket, asked);) {
    std::string answer;
    const itimerval limit = {{0, 0}, {0, kMostMicroseconds}}, none = {};
    ::setitimer(ITIMER_PROF, &limit, nullptr);
    try {
      answer = read_() ? "r" : "n";
    } catch (const std::exception& exception) {
      answer = std::string("x") + exception.what();
    }
    ::setitimer(ITIMER_PROF, &none, nullptr);
    if (!send(socket, answer)) break;
    if (answer[0] == 'x') break;
  }
  ::_exit(0);
}

void ReaderApart::begin() {
  prepare_once();
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::generic_category(), "socketpair");
  UniqueFd here(ends[0]), there(ends[1]);
  pid_ = ::fork();
  if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ == 0) {
    here.reset();
    serve(there.get());
  }
  socket_ = std::move(here);
  served_ = 0;
}

int ReaderApart::end() {
  socket_.reset();
  int status = 0;
  if (pid_ > 0) ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

void ReaderApart::keep(Input input) {
  const char* const folder = std::getenv("TENFOLD_FUZZ_BROKEN");
  if (folder == nullptr) return;
  std::ofstream file(std::filesystem::path(folder) / std::to_string(broken_++), std::ios::binary);
  file.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
}

bool ReaderApart::told(Input input, const std::function<bool()>& product) {
  keep(input);
  const bool read = !circling_ && product();
  forget_coverage();
  return read;
}

ReaderApart::Result ReaderApart::read() {
  if (served_++ >= kInputsOfAProcess) end();
  if (pid_ < 0) begin();
  char answer = 0;
  if (!send(socket_.get(), "?") || !receive(socket_.get(), answer)) {
    const int status = end();
    circling_ = WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF;
    return Result::broken;
  }
  if (answer != 'x') return answer == 'r' ? Result::read : Result::refused;
  std::string words;
  for (char letter = 0; receive(socket_.get(), letter);) words += letter;
  end();
  throw std::logic_error(words);
}

}  // namespace tenfold::fuzz
