#include "runner/doctor_gpu.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "experiments/error.h"
#include "runner/doctor_probe.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

constexpr std::chrono::seconds kMeasureLimit{120};  // the first use of CUDA on a cold machine takes its time

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text.substr(0, 300);
}

}  // namespace

std::vector<Finding> describe_nccl_measures(const std::string& output) {
  std::vector<Finding> findings;
  std::istringstream lines(output);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line.front() != '{') continue;  // libraries may talk, too
    try {
      const auto json = nlohmann::json::parse(line);
      std::array<char, 200> text{};
      std::snprintf(text.data(), text.size(), "NCCL %s, %lld GPUs: %4lld MiB summed in %8.3f ms, %.1f GB/s on the bus",
                    json.at("nccl").get<std::string>().c_str(), json.at("gpus").get<long long>(),
                    json.at("bytes").get<long long>() >> 20, 1e3 * json.at("all_reduce_s").get<double>(),
                    json.at("bus_gb_per_s").get<double>());
      findings.push_back({"NCCL bandwidth", Health::ok, text.data(), ""});
    } catch (const nlohmann::json::exception& error) {
      throw Error(ErrorKind::communication, std::string("the trainer's measures cannot be read: ") + error.what());
    }
  }
  if (findings.empty()) throw Error(ErrorKind::communication, "the trainer measured nothing: " + one_line(output));
  return findings;
}

std::vector<Finding> measure_gpus() {
  const std::filesystem::path trainer = program_folder() / "tenfold-trainer";
  const ProbeResult result = probe(trainer, {"--measure-nccl"}, {}, kMeasureLimit);
  if (!result.succeeded)
    return {{"NCCL bandwidth", Health::advice, "not measured: " + one_line(result.output + " (" + result.end + ")"),
             "trials over several GPUs need at least two of them and NCCL"}};
  return describe_nccl_measures(result.output);
}

}  // namespace tenfold
