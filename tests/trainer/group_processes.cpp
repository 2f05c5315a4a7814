#include "tests/trainer/group_processes.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <stdexcept>

#include "experiments/error.h"
#include "trainer/engine.h"
#include "trainer/meeting.h"
#include "trainer/silent_reporter.h"

namespace tenfold::testing {
namespace {

using Pipe = std::array<int, 2>;

Pipe make_pipe() {
  Pipe ends;
  if (pipe(ends.data()) != 0) throw std::runtime_error("pipe");
  return ends;
}

void write_all(int to, const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = write(to, next, bytes);
    if (n <= 0) _exit(98);
    next += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

std::string read_all(int from) {
  std::string all;
  char bytes[65536];
  ssize_t n;
  while ((n = read(from, bytes, sizeof bytes)) > 0) all.append(bytes, static_cast<std::size_t>(n));
  return all;
}

// Frames as a worker reads them, through a pipe per rank.
class PipeReporter final : public SilentReporter {
 public:
  PipeReporter(int to, std::int64_t kill_at_step) : to_(to), kill_at_step_(kill_at_step) {}
  void rows(std::uint32_t member, std::span<const TrainStepRow> rows) override { send(member, rows); }
  void rows(std::uint32_t member, std::span<const TttStepRow> rows) override { send(member, rows); }
  void rows(std::uint32_t member, std::span<const EvaluationRow> rows) override { send(member, rows); }
  void checkpoint(const CheckpointNotice& notice) override { tell(FrameType::checkpoint, encode(notice)); }
  void progress(const Progress& progress) override {
    if (kill_at_step_ > 0 && progress.step >= kill_at_step_) raise(SIGKILL);
  }
  void tell(FrameType type, const std::string& payload) {
    const std::string frame = encode_frame(type, 0, payload);
    write_all(to_, frame.data(), frame.size());
  }

 private:
  template <class Row>
  void send(std::uint32_t member, std::span<const Row> rows) {
    if (member != 0) return;
    for (const Row& row : rows)
      tell(FrameType::rows, encode_rows(RowKindOf<Row>::value, member, std::span<const Row>(&row, 1)));
  }
  int to_;
  std::int64_t kill_at_step_;
};

class PipeMeeting final : public Meeting {
 public:
  PipeMeeting(const std::vector<Pipe>& pipes, int rank) : pipes_(pipes), rank_(rank) {}
  void announce(const GroupAddress& address) override {
    const std::string line = address.address + "\n";
    for (const Pipe& pipe : pipes_) write_all(pipe[1], line.data(), line.size());
  }
  GroupAddress await(std::chrono::milliseconds patience) override {
    const int from = pipes_[static_cast<std::size_t>(rank_)][0];
    pollfd readable{from, POLLIN, 0};
    std::string address;
    char letter = 0;
    while (poll(&readable, 1, static_cast<int>(patience.count())) > 0 && read(from, &letter, 1) == 1 && letter != '\n')
      address += letter;
    if (letter != '\n') throw Error(ErrorKind::communication, "nobody announced a meeting");
    return {address};
  }

 private:
  const std::vector<Pipe>& pipes_;
  int rank_;
};

[[noreturn]] void be_rank(const ArrayJob& whole, const std::string& device, int rank, int size,
                          const std::vector<Pipe>& meetings, int results, std::int64_t kill_at_step) {
  PipeReporter reporter(results, rank == size - 1 ? kill_at_step : 0);
  PipeMeeting meeting(meetings, rank);
  try {
    ArrayJob job = whole;
    job.group = {rank, size, "localhost", true};
    Engine(device, 1).run(job, reporter, &meeting);
    reporter.tell(FrameType::job_done, "{}");
  } catch (const std::exception& error) {
    reporter.tell(FrameType::failure, encode(FailureNotice{"error", error.what()}));
  }
  _exit(0);
}

void take(GroupResult& result, const Frame& frame) {
  if (frame.type == FrameType::checkpoint) result.checkpoints.push_back(decode_checkpoint(frame.payload));
  if (frame.type != FrameType::rows) return;
  const RowBlock block = decode_rows(frame.payload);
  result.train_steps.insert(result.train_steps.end(), block.train_steps.begin(), block.train_steps.end());
  result.ttt_steps.insert(result.ttt_steps.end(), block.ttt_steps.begin(), block.ttt_steps.end());
  result.evaluations.insert(result.evaluations.end(), block.evaluations.begin(), block.evaluations.end());
}

// Reads what a rank said until its end, and how it ended.
std::string error_of(const std::string& said, pid_t pid, GroupResult* result) {
  FrameParser parser;
  parser.feed(said);
  std::string error = "it ended in the middle";
  while (const std::optional<Frame> frame = parser.next()) {
    if (frame->type == FrameType::job_done) error.clear();
    if (frame->type == FrameType::failure) error = decode_failure(frame->payload).reason;
    if (result != nullptr) take(*result, *frame);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? error : "exit code " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

GroupResult run_group_processes(const ArrayJob& job, const std::vector<std::string>& devices,
                                std::int64_t kill_at_step) {
  const int size = static_cast<int>(devices.size());
  std::vector<Pipe> meetings, results;
  for (int rank = 0; rank < size; ++rank) {
    meetings.push_back(make_pipe());
    results.push_back(make_pipe());
  }
  std::vector<pid_t> pids;
  std::fflush(nullptr);
  for (int rank = 0; rank < size; ++rank) {
    const auto place = static_cast<std::size_t>(rank);
    pids.push_back(fork());
    if (pids.back() < 0) throw std::runtime_error("fork");
    if (pids.back() == 0) {
      for (std::size_t i = 0; i < results.size(); ++i) {
        close(results[i][0]);
        if (i != place) close(results[i][1]);
      }
      be_rank(job, devices[place], rank, size, meetings, results[place][1], kill_at_step);
    }
  }
  for (const Pipe& pipe : results) close(pipe[1]);
  GroupResult result;
  for (std::size_t rank = 0; rank < pids.size(); ++rank) {
    const std::string said = read_all(results[rank][0]);
    result.errors.push_back(error_of(said, pids[rank], rank == 0 ? &result : nullptr));
    close(results[rank][0]);
  }
  for (const Pipe& pipe : meetings)
    for (const int end : pipe) close(end);
  return result;
}

}  // namespace tenfold::testing
