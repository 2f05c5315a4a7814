#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

// How `tenfold doctor` asks other programs.
namespace tenfold {

// A folder that goes away with its owner.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::filesystem::path& parent);
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::string read_text(const std::filesystem::path& file);  // empty when it cannot be read

std::optional<std::filesystem::path> find_program(const std::string& name);

struct ProbeResult {
  bool succeeded = false;
  std::string output;  // of both streams
  std::string end;     // how it ended, when not well
  double wall_s = 0;
};

inline constexpr std::chrono::seconds kProbeLimit{30};

ProbeResult probe(const std::filesystem::path& program, std::vector<std::string> arguments,
                  const std::vector<std::string>& extra_environment = {}, std::chrono::seconds limit = kProbeLimit);

}  // namespace tenfold
