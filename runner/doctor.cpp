#include "runner/doctor.h"

#include <sched.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <sstream>

#include "datasets/dataset.h"
#include "db/file_system.h"
#include "db/query.h"
#include "db/store.h"
#include "experiments/error.h"
#include "runner/doctor_gpu.h"
#include "runner/doctor_probe.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;
constexpr double kGiB = 1024.0 * 1024 * 1024;

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string decimal(double value, const char* unit) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, unit);
  return text.data();
}

Finding examine_compiler() {
  for (const char* name : {"g++", "clang++", "c++"}) {
    const auto program = find_program(name);
    if (!program) continue;
    const ProbeResult result = probe(*program, {"--version"});
    if (result.succeeded) return {"compiler", Health::ok, first_line(result.output), ""};
  }
  return {"compiler", Health::advice, "none found; this program is built, but it cannot be rebuilt here",
          "apt-get install g++"};
}

// The folder of the torch package that the trainer is linked against: what runs, not what was configured.
std::optional<fs::path> linked_torch_folder(const fs::path& trainer) {
  const auto ldd = find_program("ldd");
  if (!ldd) return std::nullopt;
  std::istringstream lines(probe(*ldd, {trainer.string()}).output);
  for (std::string line; std::getline(lines, line);) {
    const auto arrow = line.find(" => /");
    if (line.find("libtorch_cpu.so") == std::string::npos || arrow == std::string::npos) continue;
    const auto begin = arrow + 4;
    const fs::path library = line.substr(begin, line.find(" (", begin) - begin);
    return library.parent_path().parent_path();
  }
  return std::nullopt;
}

std::string torch_version(const fs::path& torch_folder) {
  const std::string text = read_text(torch_folder / "version.py");
  const std::string key = "__version__ = '";
  const auto begin = text.find(key);
  if (begin == std::string::npos) return "unknown version";
  return text.substr(begin + key.size(), text.find('\'', begin + key.size()) - begin - key.size());
}

std::vector<Finding> examine_torch_and_gpus() {
  std::vector<Finding> findings;
  const fs::path trainer = program_folder() / "tenfold-trainer";
  std::optional<fs::path> torch;
  if (!fs::exists(trainer)) {
    findings.push_back({"LibTorch", Health::missing, "there is no trainer at " + trainer.string(), "./tenfold setup"});
  } else if (torch = linked_torch_folder(trainer); !torch) {
    findings.push_back({"LibTorch", Health::missing, "the trainer does not find its LibTorch",
                        "it was moved or deleted: ./tenfold setup (or TENFOLD_TORCH=/path/to/torch ./tenfold setup)"});
  } else {
    findings.push_back({"LibTorch", Health::ok, torch_version(*torch) + " in " + torch->string(), ""});
  }

  const auto smi = find_program("nvidia-smi");
  const ProbeResult gpus =
      smi ? probe(*smi, {"--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"}) : ProbeResult{};
  std::int64_t gpu_count = 0;
  if (gpus.succeeded) {
    std::istringstream lines(gpus.output);
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty()) findings.push_back({"GPU " + std::to_string(gpu_count++), Health::ok, line, ""});
    }
  }
  if (gpu_count == 0) {
    const bool device_file = fs::exists("/dev/nvidiactl");
    findings.push_back(
        {"GPUs", device_file ? Health::advice : Health::ok,
         device_file ? "there is an NVIDIA device, but nvidia-smi does not answer" : "none: arrays run on the cores",
         device_file ? "check the driver: nvidia-smi" : ""});
    return findings;
  }
  const bool cuda_library = fs::exists(program_folder() / "libtenfold_cuda.so");
  findings.push_back(
      {"CUDA library", cuda_library ? Health::ok : Health::missing,
       cuda_library ? (program_folder() / "libtenfold_cuda.so").string() : "not built: GPUs lie idle",
       cuda_library ? "" : "install the CUDA 13 toolkit (nvcc in PATH or /usr/local/cuda), then ./tenfold setup"});
  bool nccl = false;
  if (torch) {
    nccl = fs::exists(torch->parent_path() / "nvidia" / "nccl" / "lib" / "libnccl.so.2") ||
           fs::exists(*torch / "lib" / "libnccl.so.2");
  }
  findings.push_back(
      {"NCCL", nccl ? Health::ok : Health::advice, nccl ? "beside LibTorch" : "not beside LibTorch",
       nccl ? "" : "needed for trials over several GPUs: remove the cached torch folder, then ./tenfold setup"});
  return findings;
}

Finding examine_mpi() {
  const auto mpirun = find_program("mpirun");
  if (!mpirun) return {"MPI", Health::missing, "no mpirun", "apt-get install openmpi-bin"};
  const ProbeResult version = probe(*mpirun, {"--version"});
  const std::string name = first_line(version.output);
  if (name.find("Open MPI") == std::string::npos) {
    return {"MPI", Health::missing, mpirun->string() + " is not Open MPI: " + name,
            "apt-get install openmpi-bin, and put its mpirun first in PATH"};
  }
  const ProbeResult start = probe(
      *mpirun,
      {"-n", "2", "--oversubscribe", "--mca", "plm", "isolated", (program_folder() / "tenfold").string(), "mpi-check"},
      {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"});
  if (!start.succeeded || start.output.find("2 ranks met") == std::string::npos) {
    std::string said = start.output.substr(0, 300);
    for (char& c : said) {
      if (c == '\n') c = ' ';
    }
    return {"MPI", Health::missing, name + ", but two ranks did not start: " + start.end + ": " + said,
            "try: mpirun -n 2 --oversubscribe --mca plm isolated hostname"};
  }
  return {"MPI", Health::ok, name + "; two ranks met in " + decimal(start.wall_s, "s"), ""};
}

std::vector<Finding> examine_store(const fs::path& db) {
  std::vector<Finding> findings;
  const fs::path folder = fs::absolute(db).parent_path();
  struct statfs info {};
  if (statfs(folder.c_str(), &info) != 0) {
    return {{"store", Health::missing, folder.string() + " does not exist", "mkdir -p " + folder.string()}};
  }
  const FileSystem kind = file_system_of(db);
  const double free_gib = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_bsize) / kGiB;
  Finding place{"store", Health::ok,
                folder.string() + " on " + kind.name + (kind.network ? " (network), " : " (local), ") +
                    decimal(free_gib, "GiB free"),
                ""};
  if (kind.network) place.detail += "; runs write on their node and publish copies there";
  if (free_gib < 1) {
    place.health = Health::advice;
    place.advice = "free some space: checkpoints and step losses need room";
  } else if (kind.name == "tmpfs") {
    place.health = Health::advice;
    place.advice = "it is lost at the next boot: choose another folder for results to keep";
  }
  findings.push_back(place);
  try {
    const ScratchFolder scratch(folder);
    const fs::path store = scratch.path() / "store.db";
    Store::open(store);
    std::ostringstream version;
    run_query(store, "SELECT sqlite_version() AS version", "csv", version);
    std::istringstream lines(version.str());
    std::string header, value;
    std::getline(lines, header);
    std::getline(lines, value);
    findings.push_back({"SQLite", Health::ok, value + "; a store can be created there", ""});
  } catch (const Error& error) {
    findings.push_back({"SQLite", Health::missing, error.what(), "choose a folder that you may write: --db FILE"});
  }
  return findings;
}

std::vector<Finding> examine_machine_size() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                        ? CPU_COUNT(&allowed)
                        : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  std::string detail = std::to_string(cores) + " for this process";
  std::istringstream quota(read_text("/sys/fs/cgroup/cpu.max"));
  double limit_us = 0, period_us = 0;
  if (quota >> limit_us >> period_us && period_us > 0)
    detail += ", limited to " + decimal(limit_us / period_us, "by its cgroup");
  std::vector<Finding> findings = {{"cores", Health::ok, detail, ""}};

  std::istringstream meminfo(read_text("/proc/meminfo"));
  double available_gib = 0;
  std::string key, unit;
  double value_kib = 0;
  while (meminfo >> key >> value_kib) {
    std::getline(meminfo, unit);
    if (key == "MemAvailable:") available_gib = value_kib / 1024 / 1024;
  }
  std::istringstream limit(read_text("/sys/fs/cgroup/memory.max"));
  double limit_bytes = 0;
  if (limit >> limit_bytes) available_gib = std::min(available_gib, limit_bytes / kGiB);
  const double wanted_gib = 0.5 * cores;  // a trainer on a core with a small model
  const bool enough = available_gib >= wanted_gib;
  findings.push_back({"memory", enough ? Health::ok : Health::advice, decimal(available_gib, "GiB available"),
                      enough ? "" : "little for one trainer per core: run with fewer slots (--slots N)"});
  return findings;
}

Finding examine_data() {
  const fs::path digits = cache_folder() / "data" / "digits.csv.gz";
  if (fs::exists(digits)) return {"digits data", Health::ok, digits.string(), ""};
  return {"digits data", Health::advice, "not at " + digits.string(), "./tenfold setup (needed by kind: digits alone)"};
}

const char* to_string(Health health) {
  switch (health) {
    case Health::ok:
      return "ok";
    case Health::advice:
      return "advice";
    case Health::missing:
      return "missing";
  }
  return "missing";
}

void append(std::vector<Finding>& findings, const char* subject, const std::function<std::vector<Finding>()>& examine) {
  try {
    for (Finding& finding : examine()) findings.push_back(std::move(finding));
  } catch (const std::exception& error) {
    findings.push_back({subject, Health::missing, std::string("could not be examined: ") + error.what(), ""});
  }
}

}  // namespace

std::vector<Finding> examine_machine(const DoctorOptions& options) {
  std::vector<Finding> findings;
  append(findings, "compiler", [] { return std::vector{examine_compiler()}; });
  append(findings, "LibTorch", examine_torch_and_gpus);
  if (options.measure_gpus) append(findings, "NCCL bandwidth", [] { return measure_gpus(); });
  append(findings, "MPI", [] { return std::vector{examine_mpi()}; });
  append(findings, "store", [&] { return examine_store(options.db); });
  append(findings, "cores", examine_machine_size);
  append(findings, "digits data", [] { return std::vector{examine_data()}; });
  return findings;
}

int doctor_command(const DoctorOptions& options, std::ostream& out) {
  const std::vector<Finding> findings = examine_machine(options);
  bool healthy = true;
  nlohmann::json list = nlohmann::json::array();
  for (const Finding& f : findings) {
    healthy = healthy && f.health != Health::missing;
    list.push_back(
        {{"subject", f.subject}, {"health", to_string(f.health)}, {"detail", f.detail}, {"advice", f.advice}});
    if (options.format == "json") continue;
    std::array<char, 32> head{};
    std::snprintf(head.data(), head.size(), "%-8s %-13s ", to_string(f.health), f.subject.c_str());
    out << head.data() << f.detail << (f.advice.empty() ? "" : "\n                       -> " + f.advice) << '\n';
  }
  if (options.format == "json") out << list.dump(2) << '\n';
  return healthy ? kExitDone : 1;
}

}  // namespace tenfold
