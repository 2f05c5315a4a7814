#include "runner/doctor_probe.h"

#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "experiments/error.h"
#include "experiments/file_text.h"
#include "experiments/host.h"
#include "runner/spawn.h"

namespace tenfold {

namespace fs = std::filesystem;

ScratchFolder::ScratchFolder(const fs::path& parent) {
  std::string name = (parent / ".tenfold-doctor-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw Error(ErrorKind::storage, "cannot create a folder in " + parent.string());
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string read_text(const fs::path& file) { return file_text(file).value_or(""); }

std::optional<fs::path> find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "/usr/bin:/bin" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path candidate = fs::path(folder.empty() ? "." : folder) / name;
    std::error_code ignored;
    if (fs::is_regular_file(candidate, ignored) && access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return std::nullopt;
}

ProbeResult probe(const fs::path& program, std::vector<std::string> arguments,
                  const std::vector<std::string>& extra_environment, std::chrono::seconds limit) {
  const ScratchFolder scratch(temporary_folder());
  SpawnRequest request;
  request.program = program;
  request.arguments = std::move(arguments);
  request.environment = environment_without_mpi(extra_environment);
  request.log = scratch.path() / "output";
  const auto begin = std::chrono::steady_clock::now();
  ChildProcess child = spawn(request);
  ProbeResult result;
  if (!child.wait_for(limit)) {
    result.end = "gave no answer within " + std::to_string(limit.count()) + " s";
  } else {
    result.end = child.how_it_ended();
    result.succeeded = result.end == "exited with code 0";
  }
  result.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  result.output = read_text(request.log);
  return result;
}

}  // namespace tenfold
