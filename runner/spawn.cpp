#include "runner/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
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

// posix_spawn reports failure by its result alone, so its two structs are owned here.
struct SpawnSettings {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
};

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

}  // namespace

std::optional<std::string> log_problem(const std::filesystem::path& log) {
  std::error_code error;
  std::filesystem::create_directories(log.parent_path(), error);
  const UniqueFd fd(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (fd) return std::nullopt;
  return storage_error(log, "what the processes of the run say is not kept", errno).what();
}

ChildProcess spawn_session(const SpawnRequest& request) {
  const UniqueFd log = open_log(request.log);
  SpawnSettings settings;
  posix_spawn_file_actions_addopen(&settings.actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&settings.actions, log.get(), 1);
  posix_spawn_file_actions_adddup2(&settings.actions, log.get(), 2);
  if (request.passed >= 0) posix_spawn_file_actions_adddup2(&settings.actions, request.passed, kPassedFd);
  posix_spawn_file_actions_addclosefrom_np(&settings.actions, request.passed >= 0 ? kPassedFd + 1 : kPassedFd);

  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&settings.attributes, &none);
  posix_spawnattr_setsigdefault(&settings.attributes, &all);
  posix_spawnattr_setflags(&settings.attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<std::string> arguments = request.arguments;
  arguments.insert(arguments.begin(), request.program.string());
  std::vector<std::string> environment = request.environment;
  pid_t pid = -1;
  if (!request.folder.empty()) posix_spawn_file_actions_addchdir_np(&settings.actions, request.folder.c_str());
  const int error = posix_spawn(&pid, request.program.c_str(), &settings.actions, &settings.attributes,
                                c_strings(arguments).data(), c_strings(environment).data());
  if (error != 0) cannot_start(request.program, error);
  return ChildProcess(pid);
}

ChildProcess spawn_bound_to_us(const SpawnRequest& request) {
  const UniqueFd log = request.log.empty() ? UniqueFd() : open_log(request.log);
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) cannot_start(request.program, errno);
  UniqueFd report_read(report[0]), report_write(report[1]);

  std::vector<std::string> arguments = request.arguments;
  arguments.insert(arguments.begin(), request.program.string());
  std::vector<std::string> environment = request.environment;
  const std::vector<char*> argv = c_strings(arguments), envp = c_strings(environment);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) cannot_start(request.program, errno);
  if (pid == 0) {
    // Only calls that are safe after fork() from here on.
    ::setsid();
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; ++number) ::sigaction(number, &standard, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(null.get(), 0);
    if (log) {
      ::dup2(log.get(), 1);
      ::dup2(log.get(), 2);
    }
    ::execve(request.program.c_str(), argv.data(), envp.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = ::write(report_write.get(), &error, sizeof error);
    ::_exit(127);
  }
  ChildProcess child(pid);
  report_write.reset();
  int error = 0;
  if (::read(report_read.get(), &error, sizeof error) == sizeof error) cannot_start(request.program, error);
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
