#include "runner/rank.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <iostream>
#include <optional>
#include <string>

#include "db/run_lock.h"
#include "db/store.h"
#include "db/store_home.h"
#include "db/writer.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/host.h"
#include "runner/beating.h"
#include "runner/coordinator.h"
#include "runner/coordinator_front.h"
#include "runner/front_report.h"
#include "runner/gpu_sharing.h"
#include "runner/group_sizes.h"
#include "runner/hosts.h"
#include "runner/planning.h"
#include "runner/rank_mpi.h"
#include "runner/rank_slots.h"
#include "runner/run.h"
#include "runner/worker.h"
#include "runner/worker_trainer.h"

namespace tenfold {
namespace {

int environment_number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text && *text ? std::atoi(text) : otherwise;
}

// On one host a worker knows its place before MPI has started, so that its trainer can start meanwhile.
std::optional<int> early_rank() {
  const int size = environment_number("OMPI_COMM_WORLD_SIZE", -1);
  if (size < 0 || size != environment_number("OMPI_COMM_WORLD_LOCAL_SIZE", -2)) return std::nullopt;
  return environment_number("OMPI_COMM_WORLD_RANK", -1);
}

std::filesystem::path worker_log(const RankOptions& options, int rank) {
  const std::filesystem::path folder = log_folder(options.run.db);
  std::error_code error;
  std::filesystem::create_directories(folder, error);  // without it the run goes on: spawn.h
  return folder / (std::to_string(rank) + ".log");
}

// Removes an old log that has grown large; a trainer appends to it.
void trim_log(const std::filesystem::path& log) {
  constexpr std::uintmax_t kLargeBytes = std::uintmax_t{16} << 20;
  std::error_code error;
  if (std::filesystem::file_size(log, error) > kLargeBytes && !error) std::filesystem::remove(log, error);
}

// Ranks that MPI did not bring together would wait for each other for ever.
void check_world(const MpiSession& mpi, int announced) {
  if (announced == 0 || announced == mpi.size()) return;
  throw Error(
      ErrorKind::communication,
      "MPI sees " + std::to_string(mpi.size()) + " of the " + std::to_string(announced) +
          " ranks that were started: srun and Open MPI do not speak the same PMIx here. Use the launcher mpirun, "
          "or an Open MPI that was built for this cluster's PMIx");
}

// What rank 0 works on: its data looked at, its store open and locked.
struct OpenedRun {
  explicit OpenedRun(const RankOptions& options)
      : prepared(prepare_experiment(options.run.experiment_file, options.run.overrides, options.run.share_fits,
                                    DataCache::write, options.run.shard)),
        lock(RunLock::acquire(options.run.db, prepared.experiment.name())),
        home(options.run.db, lock),
        store(Store::open(home)) {
    store.sweep_orphans();
    registered = store.register_plan(prepared.experiment, prepared.plan, prepared.parameters, prepared.identities);
  }
  PreparedExperiment prepared;
  RunLock lock;
  StoreHome home;
  Store store;
  RegisteredPlan registered;
};

// Large data sets, stores to be copied and leases to be waited for take long; workers that hear nothing meanwhile would
// take us for dead.
std::unique_ptr<OpenedRun> open_beating(const RankOptions& options, MessagePort& port) {
  std::future<std::unique_ptr<OpenedRun>> opened = begin_aside([&options] {
    fault_point("open");
    return std::make_unique<OpenedRun>(options);
  });
  port.hold_receives(true);  // their first words wait
  wait_beating(opened, std::chrono::milliseconds(500), [&port] {
    port.send_to_workers(MessageKind::heartbeat);
    port.progress();
  });
  port.hold_receives(false);
  return opened.get();
}

RunOutcome coordinate(const RankOptions& options, MpiSession& mpi, FrontLink& front, std::string& name) {
  MessagePort port(MPI_COMM_WORLD, 32);  // collective: before planning, for which workers would wait in it busily
  front.together();
  const std::unique_ptr<OpenedRun> opened = open_beating(options, port);
  name = opened->prepared.experiment.name();
  check_group_sizes(opened->prepared, opened->registered, port.size() - 1, options.gpu);
  CoordinatorSettings settings;
  settings.checkpoint_folder = std::filesystem::absolute(checkpoint_folder(options.run.db)).lexically_normal();
  settings.gpu = options.gpu;
  settings.one_numbering = !options.front_socket.empty();
  settings.empty_trials = options.run.empty_trials;
  settings.peer_silence_s = peer_silence_s();
  settings.meeting_limit_s = seconds_from_environment("TENFOLD_GROUP_MEETING_S", settings.meeting_limit_s);
  settings.ends_at = options.run.ends_at;
  make_checkpoint_folder(settings.checkpoint_folder);
  StoreWriter writer(std::move(opened->store), &opened->home);
  if (!options.restarted_because.empty())
    writer.submit(AddEvent{std::nullopt, "run_restarted", options.restarted_because});
  Coordinator coordinator(opened->prepared, std::move(opened->registered), writer, port, front, settings);
  try {
    RunOutcome outcome = coordinator.run();
    outcome.lost_workers = coordinator.lost_any_worker();
    if (outcome.lost_workers) mpi.abandon();
    return outcome;
  } catch (...) {
    mpi.abandon();
    throw;
  }
}

int run_coordinator(const RankOptions& options, SignalReceiver& signals, bool one_host) {
  std::unique_ptr<FrontLink> front = options.front_socket.empty() ? terminal_front(signals, options.run.quiet)
                                                                  : socket_front(options.front_socket, signals);
  RunOutcome outcome;
  std::string name;
  try {
    const int announced = announced_world_size(options);  // MPI changes the environment
    MpiSession mpi;
    try {
      check_world(mpi, announced);
      if (!one_host) mpi.worker_index_on_host();  // the workers' question, which all ranks answer together
      if (mpi.size() < 2)
        throw Error(ErrorKind::config,
                    "one MPI rank alone cannot run an experiment: start N+1 ranks for N slots, or call "
                    "tenfold without mpirun");
      outcome = coordinate(options, mpi, *front, name);
    } catch (...) {
      mpi.abandon();
      throw;
    }
    // Everything is committed and the store is free: the front may go on while MPI winds down.
    front->outcome(outcome);
  } catch (const Error& error) {
    if (options.front_socket.empty()) throw;
    outcome.error = error.kind();
    outcome.message = error.what();
    front->outcome(outcome);
    std::_Exit(kExitDone);
  }
  if (!options.front_socket.empty()) return kExitDone;
  front.reset();  // ends the bar's line
  return report_end(options.run, outcome, std::nullopt, name);
}

int run_worker(const RankOptions& options, SignalReceiver& signals, std::optional<int> early) {
  const pid_t parent = ::getppid();
  std::optional<Trainer> trainer;
  WorkerIntroduction introduction;
  introduction.host = host_name();
  introduction.machine = this_machine();
  introduction.pid = ::getpid();
  const auto prepare = [&](int rank, int index_on_host) {
    const std::filesystem::path log = worker_log(options, rank);
    trim_log(log);
    introduction.device = slot_device(options.gpu, index_on_host);
    introduction.slot = rank - 1;
    introduction.log = log.string();
    TrainerSettings settings = trainer_settings(introduction.device, log, options.stall_limit_s);
    if (options.share_gpus) {
      GpuSharing sharing = share_gpus(index_on_host == 0, mps_folder(options.front_socket, parent));
      settings.environment = std::move(sharing.environment);
      if (index_on_host == 0) introduction.note = sharing.note;
    }
    trainer.emplace(std::move(settings));
  };
  if (early) {
    prepare(*early, *early - 1);
    try {
      trainer->start();
    } catch (const Error&) {
      // The worker tries again and tells the coordinator.
    }
  }
  fault_point("mpi");
  const int announced = announced_world_size(options);
  MpiSession mpi;
  check_world(mpi, announced);
  if (!trainer) prepare(mpi.rank(), mpi.worker_index_on_host());
  bool finished = false;
  {
    MessagePort port(MPI_COMM_WORLD, 8);
    Worker worker(port, *trainer, signals, introduction, [parent] { return ::getppid() != parent; });
    finished = worker.run();
    trainer->end(std::chrono::milliseconds(300));
  }
  signals.let_through();                 // finalize may wait for the dead: mpirun can end it
  if (!finished) std::_Exit(kExitDone);  // nobody is left to finalize with
  return kExitDone;
}

}  // namespace

int run_in_world(const RankOptions& options) {
  SignalReceiver signals({SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2});
  arm_faults_from_environment();
  const std::optional<int> early = early_rank();
  if (early && *early > 0) return run_worker(options, signals, early);
  if (early) return run_coordinator(options, signals, true);
  // Several hosts: MPI has to say who is who.
  const int rank = environment_number("OMPI_COMM_WORLD_RANK", environment_number("PMIX_RANK", 0));
  return rank == 0 ? run_coordinator(options, signals, false) : run_worker(options, signals, std::nullopt);
}

int run_rank(int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (argv[i][0] == '{') return run_in_world(decode_rank_options(argv[i]));
  throw Error(ErrorKind::config, "tenfold rank is started by tenfold run; there is nothing to start by hand");
}

}  // namespace tenfold
