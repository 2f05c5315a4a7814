#include "experiments/records.h"

namespace tenfold {

const char* to_string(Phase phase) {
  switch (phase) {
    case Phase::train: return "train";
    case Phase::validation: return "validation";
    case Phase::before: return "before";
    case Phase::online: return "online";
    case Phase::after: return "after";
  }
  return "?";
}

const char* to_string(TrialStatus status) {
  switch (status) {
    case TrialStatus::pending: return "pending";
    case TrialStatus::running: return "running";
    case TrialStatus::done: return "done";
    case TrialStatus::failed: return "failed";
    case TrialStatus::stopped: return "stopped";
  }
  return "?";
}

const char* to_string(ParameterGroup group) {
  switch (group) {
    case ParameterGroup::base: return "base";
    case ParameterGroup::ttt: return "ttt";
    case ParameterGroup::gate: return "gate";
    case ParameterGroup::lora: return "lora";
  }
  return "";
}

}  // namespace tenfold
