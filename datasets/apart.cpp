#include "datasets/apart.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>

#include "datasets/parts_transfer.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

// Beyond it: what a file's bytes may become in memory, packed as they are, and what libraries need for themselves.
constexpr rlim_t kMemoryPerByte = 256, kMemoryOfLibraries = rlim_t{1} << 30;

// Some damaged files have a library go round in a circle. What is sound is read far faster, packed or not.
constexpr rlim_t kBytesOfASecond = rlim_t{1} << 18;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::data, path + ": " + what);
}

// Private memory of this process, as RLIMIT_DATA counts it.
rlim_t data_bytes() {
  rlim_t kib = 0;
  if (std::FILE* const status = std::fopen("/proc/self/status", "re")) {
    char line[256];
    unsigned long long value = 0;
    while (std::fgets(line, sizeof line, status) != nullptr)
      if (std::sscanf(line, "VmData: %llu kB", &value) == 1) kib = value;
    std::fclose(status);
  }
  return kib * 1024;
}

template <class Resource>
void bound(Resource resource, rlim_t wanted) {
  rlimit limit = {};
  if (::getrlimit(resource, &limit) != 0 || (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur <= wanted)) return;
  limit.rlim_cur = wanted;
  ::setrlimit(resource, &limit);
}

// By what a file of this size can need.
void bound_resources(const std::string& path, unsigned least_s) {
  struct stat file = {};
  if (::stat(path.c_str(), &file) != 0) return;  // as `load` will say
  const auto bytes = static_cast<rlim_t>(file.st_size);
  bound(RLIMIT_CPU, least_s + bytes / kBytesOfASecond);
  if (!kSanitized) bound(RLIMIT_DATA, data_bytes() + kMemoryOfLibraries + kMemoryPerByte * bytes);
}

// In the new process.
[[noreturn]] void read_and_send(int socket, pid_t parent, const std::string& path,
                                const std::function<Dataset::Parts()>& load, unsigned least_s) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  // A library that finds its stack broken says so, and would leave a core file: the error of the parent is enough.
  const rlimit none = {0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  bound_resources(path, least_s);
  ::signal(SIGXCPU, SIG_DFL);
  if (!kSanitized) {  // sanitizers have signals and words of their own
    for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL}) ::signal(number, SIG_DFL);
    if (const int nothing = ::open("/dev/null", O_WRONLY | O_CLOEXEC); nothing >= 0) ::dup2(nothing, STDERR_FILENO);
  }
  try {
    try {
      send_parts(socket, load());
    } catch (const Error& error) {
      send_error(socket, error);
    } catch (const std::bad_alloc&) {
      send_error(socket,
                 Error(ErrorKind::data, path + ": needs more memory to be read than there is, or than a file of "
                                               "its size can need: it is damaged, or the machine is too small"));
    } catch (const std::length_error&) {
      send_error(socket, Error(ErrorKind::data, path + ": is larger than memory can hold"));
    }
  } catch (...) {
    ::_exit(1);
  }
  ::_exit(0);  // nothing of the parent's is to be ended or written a second time
}

// A process that is ended and waited for, whatever happens here.
class Reader {
 public:
  explicit Reader(pid_t pid) : pid_(pid) {}
  ~Reader() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

std::string told(int status) {
  if (!WIFSIGNALED(status)) return "code " + std::to_string(WEXITSTATUS(status));
  const char* const name = ::sigdescr_np(WTERMSIG(status));
  return name == nullptr ? "signal " + std::to_string(WTERMSIG(status)) : name;
}

}  // namespace

Dataset::Parts load_apart(const std::string& path, const std::function<Dataset::Parts()>& load, unsigned least_s) {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw Error(ErrorKind::communication, path + ": no socket to the process that reads it: " + std::strerror(errno));
  UniqueFd here(ends[0]), there(ends[1]);
  const pid_t parent = ::getpid(), pid = ::fork();
  if (pid < 0)
    throw Error(ErrorKind::communication, path + ": no process can be started to read it: " + std::strerror(errno));
  if (pid == 0) read_and_send(there.get(), parent, path, load, least_s);
  there.reset();
  Reader reader(pid);
  std::optional<Dataset::Parts> parts = receive_parts(here.get(), path);
  const int status = reader.wait();
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
    fail(path,
         "takes far longer to be read than a file of its size can need: it is damaged; make it anew from its source");
  // Only what a process that ended in order has sent: its memory was sound to the end.
  if (!parts || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
    fail(path, "the library that reads such files broke over it (" + told(status) +
                   "): it is damaged, or made to do harm; make it anew from its source");
  return std::move(*parts);
}

}  // namespace tenfold
