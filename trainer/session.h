#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "trainer/meeting.h"
#include "trainer/protocol.h"
#include "trainer/reporter.h"

namespace tenfold {

struct SessionOptions {
  std::chrono::milliseconds heartbeat{1000};
  std::chrono::milliseconds flush{200};            // rows wait no longer than this
  std::chrono::milliseconds alive_timeout{15000};  // without a word of the worker
  pid_t parent = 0;                                // 0: not watched
  // TENFOLD_ALIVE_TIMEOUT_S, in seconds. Throws Error(config) when it is no positive number.
  static SessionOptions from_environment();
};

// The kernel kills this process when the thread that started it ends, and so never leaves it behind. Ends it at
// once when the parent is not `parent` (it died before this call).
void die_with_parent(pid_t parent);

// TERM, INT, HUP, USR1 and USR2 reach a whole job when a cluster or a terminal ends it: the worker drains, and its
// trainer is needed for that.
void leave_signals_to_worker();

// A trainer's talk with its worker over one socket. The calling thread computes; a second thread sends
// heartbeats, sends rows that have waited, and reads, so that a drain is seen in the middle of a job. It ends the
// process with _exit when the worker is gone (socket closed, silent, or no longer the parent): there is nobody left
// to tell, and what was committed is safe.
class Session : public Reporter, public Meeting {
 public:
  using RunArray = std::function<void(const ArrayJob&, Reporter&)>;

  // Takes ownership of a connected stream socket. Throws Error(communication) when it is none.
  Session(int socket, const SessionOptions& options);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Says ready and answers jobs one after another until the worker says shutdown. What run_array throws becomes a
  // failure frame, and the next job is taken.
  void run(const ReadyNotice& ready, const RunArray& run_array);

  void rows(std::uint32_t member, std::span<const TrainStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const TttStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const EvaluationRow> rows) override;
  void rows(std::uint32_t member, std::span<const InnerLossRow> rows) override;
  void rows(std::uint32_t member, std::span<const GateRow> rows) override;
  void rows(std::uint32_t member, std::span<const PositionLossRow> rows) override;
  void rows(std::uint32_t member, std::span<const GroupStepRow> rows) override;
  void rows(std::uint32_t member, std::span<const PairScoreRow> rows) override;
  void checkpoint(const CheckpointNotice& notice) override;
  void outcome(const MemberOutcome& outcome) override;
  void progress(const Progress& progress) override;
  // True when a drain came after the current job was received.
  bool drain_requested() override;
  void announce(const GroupAddress& address) override;
  GroupAddress await(std::chrono::milliseconds patience) override;

 private:
  struct PendingJob {
    std::uint64_t number;  // of the jobs received, from 1
    std::uint64_t attempt;
    std::string json;
  };
  using Block = std::string;  // packed rows of one member and kind

  // computing thread
  bool next_job(PendingJob& job);
  void answer(const PendingJob& pending, const RunArray& run_array);
  void answer_empty(const ArrayJob& job);
  void begin(const PendingJob& pending, const ArrayJob& job);
  void finish();
  void fail(const std::string& kind, const std::string& reason);
  template <class Row>
  void add_rows(std::uint32_t member, std::span<const Row> rows);
  void send(FrameType type, std::string_view payload);  // after the rows that came before

  // under output_mutex_
  void frame_rows();
  void write_out();  // blocks until the worker has taken it
  void write_what_fits();

  // link thread
  void keep_link();
  void read_frames();
  void take(Frame frame);
  void beat();
  void take_address(const Frame& frame);
  [[noreturn]] void leave(int status, const std::string& reason);

  const int socket_;
  const int wake_;  // eventfd: ends the link thread
  const SessionOptions options_;

  std::mutex output_mutex_;  // the computing thread may block in it; the link thread only tries
  std::uint64_t attempt_ = 0;
  std::vector<std::array<Block, kRowKinds>> blocks_;       // by member and kind
  std::vector<std::pair<std::uint32_t, RowKind>> filled_;  // blocks that hold rows, oldest first
  std::size_t waiting_bytes_ = 0;
  std::string output_;  // whole frames, the first perhaps sent in part
  Progress progress_;

  std::vector<bool> members_done_;  // computing thread alone
  std::uint64_t current_job_ = 0;   // computing thread alone
  bool reports_ = true;             // computing thread alone: not another rank than the leader of a group

  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<PendingJob> queue_;
  std::deque<std::pair<std::uint64_t, GroupAddress>> addresses_;  // by attempt, latest last: jobs may wait for them
  bool shutdown_ = false;
  bool computing_ = false;

  std::atomic<std::uint64_t> jobs_received_{0};
  std::atomic<std::uint64_t> jobs_answered_{0};
  std::atomic<std::uint64_t> jobs_drained_{0};

  FrameParser parser_;  // link thread alone
  std::chrono::steady_clock::time_point last_heard_;
  std::thread link_;
};

}  // namespace tenfold
