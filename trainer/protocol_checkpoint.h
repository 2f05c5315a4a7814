#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "trainer/protocol.h"

// What trainers and coordinator agree on about checkpoint files, beside the frames.
namespace tenfold {

// What a checkpoint file says it is (the safetensors metadata "format"). Raised when what it holds changes its meaning:
// files of another format are passed over, never guessed at.
inline constexpr std::string_view kCheckpointFormat = "tenfold checkpoint 1";

// The notice of a checkpoint that could not be written: without hash and members, and the reason where the path would
// be. The array goes on without it.
inline CheckpointNotice checkpoint_left_out(std::int64_t step, const std::string& reason) {
  CheckpointNotice notice;
  notice.step = step;
  notice.path = reason;
  return notice;
}

inline std::optional<std::string> why_left_out(const CheckpointNotice& notice) {
  if (!notice.sha256.empty()) return std::nullopt;
  return notice.path;
}

}  // namespace tenfold
