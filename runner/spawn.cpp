#include "runner/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string_view>

#include "experiments/error.h"
#include "experiments/storage_advice.h"

extern char** environ;

namespace tenfold {
namespace {

constexpr int kPassedFd = 3;

std::vector<char*> c_strings(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

[[noreturn]] void cannot_start(const std::filesystem::path& program, int error) {
  throw Error(ErrorKind::communication, "cannot start " + program.string() + ": " + std::strerror(error));
}

// No run fails for want of a log (see log_problem): what would be in it is dropped.
UniqueFd open_log(const std::filesystem::path& log) {
  UniqueFd fd(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) fd = UniqueFd(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!fd) throw storage_error(log, "the log cannot be written", errno);
  return fd;
}

bool is_from_mpi(std::string_view variable) {
  for (const std::string_view prefix : {"OMPI_", "PMIX_", "PMI_", "ORTE_", "OPAL_", "PRTE_", "HYDRA_"})
    if (variable.starts_with(prefix)) return true;
  return false;
}

std::vector<std::string> merged_environment(const std::vector<std::string>& extra, bool without_mpi) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view variable = *entry;
    if (without_mpi && is_from_mpi(variable)) continue;
    const std::string_view name = variable.substr(0, variable.find('=') + 1);
    const bool replaced = std::any_of(extra.begin(), extra.end(), [&](const auto& e) { return e.starts_with(name); });
    if (!replaced) result.emplace_back(variable);
  }
  result.insert(result.end(), extra.begin(), extra.end());
  return result;
}

std::string read_part(const std::filesystem::path& file, std::uintmax_t begin, std::uintmax_t bytes) {
  std::ifstream in(file, std::ios::binary);
  std::string text(bytes, '\0');
  in.seekg(static_cast<std::streamoff>(begin));
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

// Lines joined by " | ", without control characters and rulers.
std::string on_one_line(const std::string& text) {
  std::string result;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::erase_if(line, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (line.find_first_not_of('-') == std::string::npos) continue;
    result += (result.empty() ? "" : " | ") + line;
  }
  return result;
}

// What a new process needs to become a program, without anything that would have to be allocated.
struct Image {
  const char* program;
  char* const* arguments;
  char* const* environment;
  const char* folder;      // null: ours
  int input, log, passed;  // descriptors; -1: log is ours, nothing is passed
  pid_t parent;
};

// In the new process, whose memory is its parent's (vfork): only system calls. Returns why it cannot be done.
int become(const Image& image) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != image.parent) return ESRCH;
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
  if (::dup2(image.input, 0) < 0) return errno;
  if (image.log >= 0 && (::dup2(image.log, 1) < 0 || ::dup2(image.log, 2) < 0)) return errno;
  if (image.passed == kPassedFd) ::fcntl(kPassedFd, F_SETFD, 0);
  if (image.passed >= 0 && ::dup2(image.passed, kPassedFd) < 0) return errno;
  ::closefrom(image.passed >= 0 ? kPassedFd + 1 : kPassedFd);
  if (image.folder && ::chdir(image.folder) != 0) return errno;
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(image.program, image.arguments, image.environment);
  return errno;
}

// vfork, not fork: a rank has MPI's and the data's memory, which a copy of its page tables would cost and RDMA forbids;
// and not posix_spawn, which cannot bind the child before its program runs: a trainer loads LibTorch for a second
// before it could ask for that itself.
pid_t new_process(const Image& image, volatile int* error) {
  const pid_t pid = ::vfork();
  if (pid == 0) {
    *error = become(image);
    ::_exit(127);
  }
  return pid;
}

}  // namespace

std::optional<std::string> log_problem(const std::filesystem::path& log) {
  std::error_code error;
  std::filesystem::create_directories(log.parent_path(), error);
  const UniqueFd fd(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (fd) return std::nullopt;
  return storage_error(log, "what the processes of the run say is not kept", errno).what();
}

ChildProcess spawn(const SpawnRequest& request) {
  const UniqueFd log = request.log.empty() ? UniqueFd() : open_log(request.log);
  const UniqueFd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::vector<std::string> arguments = request.arguments;
  arguments.insert(arguments.begin(), request.program.string());
  std::vector<std::string> environment = request.environment;
  const std::vector<char*> argv = c_strings(arguments), envp = c_strings(environment);
  const Image image{request.program.c_str(),
                    argv.data(),
                    envp.data(),
                    request.folder.empty() ? nullptr : request.folder.c_str(),
                    input.get(),
                    log.get(),
                    request.passed,
                    ::getpid()};
  // Our handlers must not run in the child while it shares our memory.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile int error = 0;
  const pid_t pid = new_process(image, &error);
  if (pid < 0) error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ChildProcess child(pid);
  if (error != 0) cannot_start(request.program, error);
  return child;
}

std::vector<std::string> environment_without_mpi(const std::vector<std::string>& extra) {
  return merged_environment(extra, true);
}

std::vector<std::string> environment_with(const std::vector<std::string>& extra) {
  return merged_environment(extra, false);
}

std::filesystem::path installed_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string rest = path ? path : "";
  rest += ":/usr/local/bin:/usr/bin";
  for (std::size_t begin = 0; begin <= rest.size();) {
    const std::size_t end = std::min(rest.find(':', begin), rest.size());
    const std::filesystem::path candidate = std::filesystem::path(rest.substr(begin, end - begin)) / name;
    if (::access(candidate.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(candidate)) return candidate;
    begin = end + 1;
  }
  throw Error(ErrorKind::communication, name +
                                            " is not installed or not in PATH: run ./tenfold setup, or load your "
                                            "cluster's Open MPI module");
}

std::string log_tail(const std::filesystem::path& log, std::uintmax_t from_byte, std::size_t max_bytes) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(log, error);
  if (error || size <= from_byte) return "";
  const std::uintmax_t begin = std::max<std::uintmax_t>(from_byte, size > max_bytes ? size - max_bytes : 0);
  std::string text = read_part(log, begin, size - begin);
  if (begin > from_byte) text.erase(0, text.find('\n') == std::string::npos ? 0 : text.find('\n') + 1);
  return on_one_line(text);
}

std::string log_head(const std::filesystem::path& log, std::uintmax_t from_byte, std::size_t max_bytes) {
  std::string text = read_part(log, from_byte, max_bytes);
  if (text.size() == max_bytes && text.rfind('\n') != std::string::npos) text.resize(text.rfind('\n'));
  return on_one_line(text);
}

std::filesystem::path program_folder() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) throw Error(ErrorKind::internal, "cannot read /proc/self/exe: " + error.message());
  return self.parent_path();
}

}  // namespace tenfold
