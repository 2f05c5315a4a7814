#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "experiments/frozen_time.h"
#include "runner/messages_port.h"
#include "runner/rank_pacer.h"
#include "runner/signals.h"
#include "runner/worker_trainer.h"

namespace tenfold {

// Ranks 1..N: hands the coordinator's jobs to its trainer, one at a time, and the trainer's frames back; replaces a
// trainer that dies or hangs. Light: no dataset, no plan, no LibTorch.
class Worker {
 public:
  // `trainer` may have been started already, to warm up while MPI starts. `orphaned` says that mpirun is gone.
  Worker(MessagePort& port, Trainer& trainer, SignalReceiver& signals, WorkerIntroduction introduction,
         std::function<bool()> orphaned);

  // Until the coordinator says finish: true. False when there is no coordinator any more.
  bool run();

 private:
  using Clock = std::chrono::steady_clock;
  struct Job {
    std::uint64_t dispatch;
    std::string payload;
    std::string join;  // where its group meets, when that is known before it starts
  };

  void handle(Message message);
  bool listen_to_trainer();
  void relay(const Frame& frame);
  void start_next_job();
  void replace_trainer(const std::string& reason, bool tell);
  void drain();
  void join(const Message& message);
  void abandon(std::uint64_t dispatch);
  void tick(Clock::time_point now);
  void forgive(Clock::duration silence);
  void send(MessageKind kind, std::uint64_t dispatch = 0, std::string payload = "", FrameType frame = {});

  MessagePort& port_;
  Trainer& trainer_;
  SignalReceiver& signals_;
  WorkerIntroduction introduction_;
  std::function<bool()> orphaned_;
  Pacer pacer_;

  std::deque<Job> queue_;
  std::uint64_t current_ = 0;  // the dispatch that the trainer computes; 0: none
  bool draining_ = false, finished_ = false, abandoned_ = false, unusable_ = false;
  int failed_starts_ = 0;  // in a row, without the trainer getting ready
  double silence_s_;
  FrozenTime frozen_;
  bool heard_ = false;
  Clock::time_point last_heard_, last_tick_, last_heartbeat_, leave_by_ = Clock::time_point::max();
};

}  // namespace tenfold
