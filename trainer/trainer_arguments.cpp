#include "trainer/trainer_arguments.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "experiments/error.h"

namespace tenfold {
namespace {

std::string check_device(const std::string& device) {
  if (device == "cpu") return {};
  const bool indexed = device.starts_with("cuda:") && device.size() > 5 && device.size() < 10 &&
                       device.find_first_not_of("0123456789", 5) == std::string::npos;
  return indexed ? std::string() : "'" + device + "' is neither cpu nor cuda:N";
}

}  // namespace

std::optional<TrainerArguments> parse_trainer_arguments(int argc, const char* const* argv) {
  TrainerArguments arguments;
  CLI::App app(
      "Computes arrays of fits and trials for a worker of tenfold, which starts it; not meant to be run by hand.",
      "tenfold-trainer");
  app.add_option("--socket-fd", arguments.socket, "file descriptor of the socket to the worker")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app.add_option("--device", arguments.device, "cpu or cuda:N")->check(check_device)->capture_default_str();
  const CLI::Option* threads = app.add_option("--threads", arguments.threads, "threads of one operation on the CPU")
                                   ->check(CLI::Range(1, 4096))
                                   ->capture_default_str();
  app.add_option("--parent-pid", arguments.parent, "process id of the worker; the trainer ends with it")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--diagnose", arguments.diagnose, "run a saved model once, as this file says, instead of arrays");
  app.add_flag("--measure-nccl", arguments.measure_nccl, "time sums over the GPUs of this machine, as lines of JSON");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::config, std::string("tenfold-trainer: ") + error.what() + " (tenfold-trainer --help)");
  }
  if (!arguments.diagnose.empty() && threads->count() == 0) arguments.threads = 0;
  return arguments;
}

}  // namespace tenfold
