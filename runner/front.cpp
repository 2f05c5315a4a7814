#include "runner/front.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <vector>

#include "db/run_lock.h"
#include "db/store.h"
#include "db/store_home.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/number_text.h"
#include "runner/front_report.h"
#include "runner/group_sizes.h"
#include "runner/hosts.h"
#include "runner/process_table.h"
#include "runner/rank.h"
#include "runner/rank_settings.h"
#include "runner/rank_slots.h"
#include "runner/spawn.h"

namespace tenfold {
namespace {

constexpr int kStarts = 3;
constexpr auto kAllHereLimit = std::chrono::seconds(30);  // milliseconds, where there is nothing else to do
constexpr auto kStartLimit = std::chrono::seconds(120);   // until the coordinator says hello: slow file systems
constexpr double kTogether_s = 300;                       // until MPI has brought the ranks of several hosts together
constexpr std::chrono::milliseconds kNothingBegunLimit{3000};
const std::vector<int> kDrainSignals = {SIGINT, SIGTERM, SIGHUP, SIGUSR2};
constexpr std::chrono::milliseconds kEndLimit{3000}, kLostEndLimit{300};
constexpr auto kLastWordLimit = std::chrono::seconds(1);  // how mpirun ended, if it did
constexpr auto kTermLimit = std::chrono::seconds(2);

// The front's own part of a run: what is there to do? Under the run lock, which the coordinator takes over.
struct Survey {
  PreparedExperiment prepared;
  HostLayout layout;
  bool done = false;
};

// Without a word of the coordinator, whose drain takes 10 s at most.
std::chrono::milliseconds drain_limit() {
  return std::chrono::milliseconds(static_cast<std::int64_t>(1e3 * seconds_from_environment("TENFOLD_DRAIN_S", 30)));
}

std::vector<Host> asked_hosts(const RunOptions& options) {
  if (!options.hostfile.empty()) return read_hostfile(options.hostfile);
  return options.hosts.empty() ? std::vector<Host>{} : parse_hosts(options.hosts);
}

Survey survey(const RunOptions& options) {
  PreparedExperiment prepared = prepare_experiment(options.experiment_file, options.overrides, options.share_fits,
                                                   DataCache::write, options.shard);
  HostLayout layout =
      lay_out(asked_hosts(options), prepared.experiment.base().resources, options.slots, options.device);
  const auto tell = [](const std::string& line) { std::cerr << line << std::endl; };
  const RunLock lock = RunLock::acquire(options.db, prepared.experiment.name(), tell);
  const StoreHome home(options.db, lock);
  Store store = Store::open(home);
  const RegisteredPlan registered =
      store.register_plan(prepared.experiment, prepared.plan, prepared.parameters, prepared.identities);
  home.publish();
  const bool done = everything_is_done(registered);
  check_group_sizes(prepared, registered, layout.choice.slots, layout.choice.gpu,
                    several_hosts(layout) ? 0 : visible_gpus());
  if (!done && !options.quiet) std::cout << describe_start(prepared, registered, options, layout) << std::flush;
  return {std::move(prepared), std::move(layout), done};
}

int run_in_foreign_world(const RunOptions& options) {
  // Every rank reads the file for its device; rank 0 alone plans.
  const Experiment experiment = Experiment::load(options.experiment_file, options.overrides);
  const SlotChoice slots = choose_slots(experiment.base().resources, options.slots, options.device);
  RankOptions rank;
  rank.run = options;
  rank.slots = 0;
  rank.gpu = slots.gpu;
  rank.share_gpus = slots.share_gpus;
  rank.stall_limit_s = experiment.base().resources.stall_limit_s;
  return run_in_world(rank);
}

}  // namespace

Front::Front(const RankOptions& options, const HostLayout& layout, SignalReceiver& signals)
    : options_(options),
      layout_(layout),
      signals_(signals),
      folder_(mpi_bytes(options.slots + 1)),
      started_(Clock::now()) {
  log_ = log_folder(options.run.db) / "mpirun.log";
  const std::optional<std::string> problem = log_problem(log_);
  std::error_code error;
  log_begin_ = std::filesystem::file_size(log_, error);
  if (error) log_begin_ = 0;
  options_.front_socket = folder_.path() / "front";
  listener_ = listen_unix(options_.front_socket);
  mpirun_ = start_mpirun(options_, layout, folder_.path(), log_);
  view_.emplace(STDERR_FILENO, options_.run.quiet);
  if (problem) view_->note(*problem);
}

RunOutcome Front::watch() {
  while (!outcome_ && !stopped_at_once_) {
    std::vector<pollfd> sockets{{signals_.fd(), POLLIN, 0}};
    if (channel_)
      sockets.push_back({channel_->fd(), static_cast<short>(POLLIN | (channel_->flushed() ? 0 : POLLOUT)), 0});
    else
      sockets.push_back({listener_.get(), POLLIN, 0});
    ::poll(sockets.data(), sockets.size(), 200);
    const Clock::duration frozen = frozen_.take();
    started_ += frozen;
    if (give_up_ != Clock::time_point::max()) give_up_ += frozen;
    take_signals();
    if (!channel_) {
      if (auto fd = accept_unix(listener_)) {
        channel_.emplace(std::move(*fd));
        if (drain_signal_) channel_->send(encode(FrontLine{FrontLine::Kind::drain, signal_name(*drain_signal_)}));
      }
    }
    // Asked first: the last lines are read before it counts.
    const bool mpirun_ended = mpirun_.ended();
    const std::string failed = reported_ || mpirun_ended ? "" : failed_start();
    take_lines();
    if (outcome_ || stopped_at_once_) break;
    if (!failed.empty() && !reported_ && !drain_signal_ && !(channel_ && channel_->closed())) {
      if (starts_ < kStarts) {
        start_again(failed);
        continue;
      }
      if (!together_) give_up_starting(failed);
    }
    if (Clock::now() > give_up_) {
      stopped_at_once_ = true;
    } else if ((channel_ && channel_->closed()) || mpirun_ended ||
               (!channel_ && Clock::now() - started_ > kStartLimit)) {
      coordinator_died();
    }
  }
  view_.reset();  // ends the bar's line
  if (stopped_at_once_) return RunOutcome{};
  return *outcome_;
}

void Front::take_signals() {
  while (const auto signal = signals_.next()) {
    if (drain_signal_) {
      // Clusters send several signals on their way to a kill; only a person who repeats Ctrl-C is in a hurry.
      if (*signal != SIGINT) continue;
      stopped_at_once_ = true;
      drain_signal_ = *signal;
      continue;
    }
    drain_signal_ = *signal;
    give_up_ = Clock::now() + (reported_ ? drain_limit() : kNothingBegunLimit);
    view_->note("stopping at the next step, with a checkpoint" +
                std::string(*signal == SIGINT ? "; Ctrl-C again stops at once" : ""));
    if (channel_) channel_->send(encode(FrontLine{FrontLine::Kind::drain, signal_name(*signal)}));
  }
}

void Front::take_lines() {
  if (!channel_) return;
  channel_->flush();
  channel_->receive();
  while (const auto line = channel_->next()) {
    const FrontLine said = decode_front_line(*line);
    switch (said.kind) {
      case FrontLine::Kind::together:
        together_ = true;
        break;
      case FrontLine::Kind::progress:
        // Whoever reports is alive: it may be copying a large store to where it is published.
        if (drain_signal_) give_up_ = Clock::now() + drain_limit();
        reported_ = true;
        view_->show(decode_snapshot(said.content));
        break;
      case FrontLine::Kind::note:
        view_->note(said.content);
        break;
      case FrontLine::Kind::outcome:
        outcome_ = decode_outcome_of_run(said.content);
        break;
      case FrontLine::Kind::drain:
        break;
    }
  }
}

// MPI's start waits for ever for a rank that is no more, and only this host's processes can be looked at.
std::string Front::failed_start() {
  if (several_hosts(layout_)) {
    const double limit_s = seconds_from_environment("TENFOLD_START_S", kTogether_s);
    if (together_ || Clock::now() - started_ < std::chrono::duration<double>(limit_s)) return "";
    return "the processes on the hosts of the run did not find each other within " + number_text(limit_s) + " s";
  }
  const int here = live_children(mpirun_.pid());
  if (here < most_here_) return "a process of the run died while it was starting";
  most_here_ = here;
  const bool all = here > options_.slots;  // the coordinator is one more
  if (!all && Clock::now() - started_ > kAllHereLimit) return "not all processes of the run were started";
  return "";
}

// Nothing has been begun yet, so that nothing is done twice.
void Front::start_again(const std::string& reason) {
  ++starts_;
  view_->note(reason + "; starting again");
  mpirun_.kill_whole_session();
  mpirun_.wait_for(kEndLimit);
  channel_.reset();
  while (accept_unix(listener_)) {  // of the dead
  }
  most_here_ = 0;
  together_ = false;
  options_.restarted_because = reason;
  mpirun_ = start_mpirun(options_, layout_, folder_.path(), log_);
  started_ = Clock::now();
}

void Front::give_up_starting(const std::string& reason) {
  view_.reset();
  mpirun_.kill_whole_session();
  mpirun_.wait_for(kEndLimit);
  const std::string tail = log_tail(log_, log_begin_);
  throw Error(ErrorKind::communication, reason + ", " + std::to_string(kStarts) + " times" +
                                            (tail.empty() ? "" : " (" + tail + ")") + ". See " + log_.string() +
                                            ", the logs beside it, and tenfold doctor");
}

void Front::coordinator_died() {
  view_.reset();
  const bool never_came = !channel_;
  mpirun_.wait_for(kLastWordLimit);
  const int signal = mpirun_.ended_by_signal(), code = mpirun_.exit_code();
  // What mpirun says of its own end is long and general; the cause of a failed start is what came first.
  const std::string tail = never_came ? log_head(log_, log_begin_) : log_tail(log_, log_begin_);
  mpirun_.kill_whole_session();
  mpirun_.wait_for(kEndLimit);
  // Ranks drain when mpirun is told to end; but they cannot before they are there. Then it ends with 1 and says
  // nothing, as it does for no other reason.
  const bool told_to_end =
      std::ranges::find(kDrainSignals, signal) != kDrainSignals.end() || (never_came && code == 1 && tail.empty());
  if ((drain_signal_ && !reported_) || told_to_end) {
    stopped_at_once_ = true;
    if (!drain_signal_) drain_signal_ = SIGTERM;
    return;
  }
  throw Error(ErrorKind::communication,
              std::string(never_came ? "the processes of the run did not start" : "the coordinator of the run died") +
                  (tail.empty() ? "" : " (" + tail + ")") +
                  (never_came ? ". See " + log_.string() + " and tenfold doctor"
                              : ". Everything committed is kept: run the same command again to go on"));
}

void Front::end() {
  view_.reset();
  if (!stopped_at_once_) {
    // After the loss of a worker mpirun may never end by itself; rank 0 is through, so a TERM harms nobody.
    const bool waits_for_the_dead = outcome_ && outcome_->lost_workers;
    if (!mpirun_.wait_for(waits_for_the_dead ? kLostEndLimit : kEndLimit)) {
      mpirun_.signal(SIGTERM);
      mpirun_.wait_for(kTermLimit);
    }
  }
  // Whatever is left: an ssh to a host that does not answer, and mpirun if it waits for that.
  mpirun_.kill_whole_session();
  mpirun_.wait_for(stopped_at_once_ ? kEndLimit : kTermLimit);
}

int run_experiment(const RunOptions& options) {
  refuse_separate_tasks();
  if (in_foreign_mpi_world()) return run_in_foreign_world(options);
  end_at_once_on(kDrainSignals);
  arm_faults_from_environment();
  const Survey what = survey(options);
  const std::string& name = what.prepared.experiment.name();
  if (what.done) {
    report_nothing_to_do(what.prepared, options);
    return kExitDone;
  }
  RankOptions rank;
  rank.run = options;
  rank.slots = what.layout.choice.slots;
  rank.gpu = what.layout.choice.gpu;
  rank.share_gpus = what.layout.choice.share_gpus;
  rank.stall_limit_s = what.prepared.experiment.base().resources.stall_limit_s;
  rank.run.db = std::filesystem::absolute(options.db).lexically_normal();
  SignalReceiver signals(kDrainSignals);
  Front front(rank, what.layout, signals);
  const RunOutcome outcome = front.watch();
  if (front.stopped_at_once()) {
    front.end();
    std::cerr << "Stopped at once. Everything committed is in " << options.db.string()
              << ": run the same command again to go on.\n";
    return front.drain_signal() == SIGINT ? kExitInterrupted : kExitDrained;
  }
  // The table is read while mpirun winds down.
  const int code = report_end(options, outcome, front.drain_signal(), name);
  front.end();
  return code;
}

}  // namespace tenfold
