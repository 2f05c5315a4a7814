#include "runner/coordinator_resume.h"

#include "datasets/safetensors.h"
#include "experiments/error.h"
#include "trainer/protocol_checkpoint.h"

namespace tenfold {
namespace {

bool is_known_format(const std::filesystem::path& file, std::string& reason) {
  const SafetensorsFile checkpoint = SafetensorsFile::open(file);
  const auto format = checkpoint.metadata().find("format");
  if (format != checkpoint.metadata().end() && format->second == kCheckpointFormat) return true;
  reason = file.string() + " is of another version of tenfold (" +
           (format == checkpoint.metadata().end() ? "it names none" : "'" + format->second + "'") +
           ", this one reads '" + std::string(kCheckpointFormat) + "')";
  return false;
}

}  // namespace

std::vector<std::string> CheckpointCheck::keep_usable(std::vector<StoredCheckpoint>& checkpoints) {
  std::vector<std::string> dropped;
  while (!checkpoints.empty()) {
    std::string reason;
    if (good(checkpoints.front(), reason)) break;
    dropped.push_back("checkpoint of step " + std::to_string(checkpoints.front().step) + " is not used: " + reason);
    checkpoints.erase(checkpoints.begin());
  }
  return dropped;
}

bool CheckpointCheck::good(const StoredCheckpoint& checkpoint, std::string& reason) {
  const std::filesystem::path file = folder_ / checkpoint.path;
  if (const auto known = good_.find(checkpoint.path); known != good_.end()) {
    if (!known->second) reason = file.string() + " is damaged or missing";
    return known->second;
  }
  bool result = false;
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) {
    reason = file.string() + " does not exist";
  } else {
    try {
      result = hash_(file.string()) == checkpoint.sha256;
      if (!result)
        reason = file.string() + " is damaged (its SHA-256 is not the recorded one)";
      else
        result = is_known_format(file, reason);
    } catch (const Error& unreadable) {
      reason = unreadable.what();
    }
  }
  good_[checkpoint.path] = result;
  return result;
}

CheckpointRef CheckpointCheck::reference(const StoredCheckpoint& checkpoint) const {
  return {(folder_ / checkpoint.path).string(), checkpoint.array_index, checkpoint.step, checkpoint.sha256};
}

}  // namespace tenfold
