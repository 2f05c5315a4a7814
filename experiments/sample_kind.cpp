#include "experiments/sample_kind.h"

namespace tenfold {

const char* to_string(SampleKind kind) {
  switch (kind) {
    case SampleKind::fixed:
      return "fixed";
    case SampleKind::sequence:
      return "sequence";
    case SampleKind::tokens:
      return "tokens";
  }
  return "";
}

const char* to_string(LabelKind kind) {
  switch (kind) {
    case LabelKind::sample:
      return "sample";
    case LabelKind::step:
      return "step";
    case LabelKind::next_token:
      return "next_token";
  }
  return "";
}

}  // namespace tenfold
