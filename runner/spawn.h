#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runner/child.h"
#include "runner/unix_socket.h"

namespace tenfold {

// How a program is started: in a session of its own, with a clean signal mask, /dev/null as its input, `log` (appended
// to; empty: ours) as its output, and no descriptor of ours but `passed`, which it finds as descriptor 3.
struct SpawnRequest {
  std::filesystem::path program;
  std::vector<std::string> arguments;    // without the program's name
  std::vector<std::string> environment;  // NAME=value
  std::filesystem::path log;
  int passed = -1;
  std::filesystem::path folder{};  // its working folder; empty: ours
};

// The kernel kills it when the calling thread ends. May be called from any rank, also between MPI calls. Throws
// Error(communication) when the program cannot be started.
ChildProcess spawn(const SpawnRequest& request);

// Our environment without what mpirun and its daemons gave to a rank: a child that saw it would take itself for one.
// `extra` (NAME=value) replaces what has the same name.
std::vector<std::string> environment_without_mpi(const std::vector<std::string>& extra);
std::vector<std::string> environment_with(const std::vector<std::string>& extra);

// A program of $PATH, or of /usr/local/bin and /usr/bin. Throws Error(communication) that says how to get it.
std::filesystem::path installed_program(const std::string& name);

// Makes the log and its folder. Why that cannot be done: the run goes on without it.
std::optional<std::string> log_problem(const std::filesystem::path& log);

// The last lines of a file from `from_byte` on, joined by " | ", without control characters, at most `max_bytes`.
std::string log_tail(const std::filesystem::path& log, std::uintmax_t from_byte, std::size_t max_bytes = 400);

// The first lines, likewise.
std::string log_head(const std::filesystem::path& log, std::uintmax_t from_byte, std::size_t max_bytes = 400);

// The folder of the running program.
std::filesystem::path program_folder();

}  // namespace tenfold
