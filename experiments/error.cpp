#include "experiments/error.h"

namespace tenfold {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::config: return 2;
    case ErrorKind::data: return 3;
    case ErrorKind::device: return 4;
    case ErrorKind::communication: return 5;
    case ErrorKind::storage: return 6;
    case ErrorKind::internal: return 70;
  }
  return 70;
}

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::config: return "configuration error";
    case ErrorKind::data: return "data error";
    case ErrorKind::device: return "device error";
    case ErrorKind::communication: return "communication error";
    case ErrorKind::storage: return "storage error";
    case ErrorKind::internal: return "internal error";
  }
  return "error";
}

}  // namespace tenfold
