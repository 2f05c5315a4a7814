// tenfold-trainer: computes arrays for the worker that started it, until it is told to end; or runs one saved model for
// `tenfold diagnose`.
#include <torch/version.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "trainer/diagnose.h"
#include "trainer/engine.h"
#include "trainer/nccl_measure.h"
#include "trainer/session.h"
#include "trainer/trainer_arguments.h"

namespace tenfold {
namespace {

int run(int argc, char** argv) {
  const auto arguments = parse_trainer_arguments(argc, argv);
  if (!arguments) return kExitDone;
  die_with_parent(arguments->parent);
  if (!arguments->diagnose.empty()) {
    run_diagnose_job(arguments->diagnose, arguments->threads);
    return kExitDone;
  }
  if (arguments->measure_nccl) {
    std::fputs(measure_nccl().c_str(), stdout);
    return kExitDone;
  }
  std::signal(SIGPIPE, SIG_IGN);
  leave_signals_to_worker();
  arm_faults_from_environment();
  SessionOptions options = SessionOptions::from_environment();
  options.parent = arguments->parent;
  Session session(arguments->socket, options);
  Engine engine(arguments->device, arguments->threads);
  session.run(ReadyNotice{getpid(), engine.description(), TORCH_VERSION, engine.memory_bytes()},
              [&](const ArrayJob& job, Reporter& reporter) { engine.run(job, reporter, &session); });
  return kExitDone;
}

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  try {
    return tenfold::run(argc, argv);
  } catch (const tenfold::Error& error) {
    std::fprintf(stderr, "tenfold-trainer: %s: %s\n", tenfold::to_string(error.kind()), error.what());
    return tenfold::exit_code(error.kind());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tenfold-trainer: %s\n", error.what());
    return tenfold::exit_code(tenfold::ErrorKind::internal);
  }
}
