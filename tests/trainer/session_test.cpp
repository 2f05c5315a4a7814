#include "trainer/session.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>

#include "experiments/error.h"
#include "experiments/fault_point.h"

namespace tenfold {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPatience{20000};  // a test that waits this long has failed

SessionOptions quick() {
  SessionOptions options;
  options.heartbeat = milliseconds(50);
  options.flush = milliseconds(20);
  return options;
}

// A session in a process of its own, and the worker's end of its socket.
class Trainer {
 public:
  explicit Trainer(Session::RunArray run_array, SessionOptions options = quick()) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("socketpair");
    socket_ = ends[0];
    options.parent = getpid();
    pid_ = fork();
    if (pid_ != 0) {
      close(ends[1]);
      return;
    }
    close(ends[0]);
    try {
      die_with_parent(options.parent);
      arm_faults_from_environment();
      Session session(ends[1], options);
      session.run({getpid(), "test", "0", 1}, run_array);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      _exit(99);
    }
    _exit(0);
  }
  ~Trainer() {
    hang_up();
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Trainer(const Trainer&) = delete;

  void hang_up() {
    if (socket_ >= 0) close(socket_);
    socket_ = -1;
  }

  void tell(FrameType type, std::uint64_t attempt = 0, const std::string& payload = "") {
    const std::string bytes = encode_frame(type, attempt, payload);
    ASSERT_EQ(::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  void tell_bytes(const std::string& bytes) { (void)!::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

  // The next frame; heartbeats are passed over unless they are wanted. Keeps the trainer alive meanwhile.
  std::optional<Frame> hear(bool heartbeats = false) {
    const auto until = steady_clock::now() + kPatience;
    while (steady_clock::now() < until) {
      while (auto frame = parser_.next())
        if (heartbeats || frame->type != FrameType::heartbeat) return frame;
      pollfd readable{socket_, POLLIN, 0};
      if (poll(&readable, 1, 20) > 0) {
        char bytes[65536];
        const ssize_t n = recv(socket_, bytes, sizeof bytes, 0);
        if (n <= 0) return std::nullopt;
        parser_.feed({bytes, static_cast<std::size_t>(n)});
      }
    }
    return std::nullopt;
  }

  Frame expect(FrameType type, std::uint64_t attempt, bool heartbeats = false) {
    const std::optional<Frame> frame = hear(heartbeats);
    if (!frame) {
      ADD_FAILURE() << "no frame of type " << static_cast<int>(type);
      return {};
    }
    EXPECT_EQ(frame->type, type) << frame->payload;
    EXPECT_EQ(frame->attempt, attempt);
    return *frame;
  }

  // Until a heartbeat tells that the job computes.
  void wait_for_a_step(std::uint64_t attempt) {
    while (const auto frame = hear(true))
      if (frame->type == FrameType::heartbeat && frame->attempt == attempt && decode_progress(frame->payload).step > 0)
        return;
    ADD_FAILURE() << "attempt " << attempt << " makes no step";
  }

  // The first frame that holds no rows, and how many training rows came before it.
  Frame after_rows(std::size_t& rows) {
    rows = 0;
    while (auto frame = hear()) {
      if (frame->type != FrameType::rows) return *frame;
      rows += decode_rows(frame->payload).train_steps.size();
    }
    return {};
  }

  // Its wait status, as a shell would say it: exit code, or 128 + signal; -1 when it does not end.
  int end() {
    const auto until = steady_clock::now() + kPatience;
    while (steady_clock::now() < until) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
      }
      usleep(2000);
    }
    return -1;
  }
  pid_t pid() const { return pid_; }

 private:
  int socket_ = -1;
  pid_t pid_ = -1;
  FrameParser parser_;
};

std::string job_of(int members, bool empty = false, std::int64_t first_unit = 1) {
  ArrayJob job;
  job.configurations = {"{}"};
  for (int i = 0; i < members; ++i) job.members.push_back({first_unit + i, 0, 0, i, std::nullopt, std::nullopt});
  job.array = "test";
  job.empty = empty;
  return encode(job);
}

TttStepRow ttt_row(std::int64_t step) { return {step, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0}; }
TrainStepRow train_row(std::int64_t step) { return {step, 0, 0.25, 0, 0, 0}; }

template <class Row>
void report(Reporter& reporter, std::uint32_t member, const Row& row) {
  reporter.rows(member, std::span<const Row>(&row, 1));
}

void all_done(const ArrayJob& job, Reporter& reporter) {
  for (std::size_t i = 0; i < job.members.size(); ++i) {
    MemberOutcome outcome;
    outcome.member = static_cast<std::int32_t>(i);
    reporter.outcome(outcome);
  }
}

// Runs until drained, then says stopped for every member.
void until_drained(const ArrayJob& job, Reporter& reporter) {
  std::int64_t step = 0;
  while (!reporter.drain_requested()) {
    reporter.progress({++step, 100, 1.0, 0.5, 0.4, 0.1});
    usleep(1000);
  }
  for (std::size_t i = 0; i < job.members.size(); ++i) {
    MemberOutcome outcome;
    outcome.member = static_cast<std::int32_t>(i);
    outcome.status = TrialStatus::stopped;
    outcome.steps = step;
    reporter.outcome(outcome);
  }
}

TEST(Session, SaysReadyAnswersJobsAndEndsWhenTold) {
  Trainer trainer(all_done);
  const ReadyNotice ready = decode_ready(trainer.expect(FrameType::ready, 0).payload);
  EXPECT_EQ(ready.pid, trainer.pid());
  EXPECT_EQ(ready.device, "test");
  for (std::uint64_t attempt : {7, 8}) {
    trainer.tell(FrameType::job, attempt, job_of(2));
    EXPECT_EQ(decode_outcome(trainer.expect(FrameType::member_done, attempt).payload).member, 0);
    EXPECT_EQ(decode_outcome(trainer.expect(FrameType::member_done, attempt).payload).member, 1);
    trainer.expect(FrameType::job_done, attempt);
  }
  trainer.tell(FrameType::shutdown);
  EXPECT_EQ(trainer.end(), 0);
}

// The leader's address goes up with the job's attempt; another rank gets it, even before its job, and reports nothing.
TEST(Session, LetsAGroupMeet) {
  const auto meet = [](const ArrayJob& job, Reporter& reporter) {
    auto& meeting = dynamic_cast<Meeting&>(reporter);
    if (job.group.rank == 0) {
      meeting.announce({"here"});
      return all_done(job, reporter);
    }
    if (meeting.await(kPatience).address != "there") throw std::runtime_error("the address of another attempt");
  };
  Trainer trainer(meet);
  trainer.expect(FrameType::ready, 0);
  ArrayJob job = decode_job(job_of(1));
  job.group = {0, 2, "localhost", true};
  trainer.tell(FrameType::job, 3, encode(job));
  EXPECT_EQ(decode_group_address(trainer.expect(FrameType::meeting, 3).payload).address, "here");
  trainer.expect(FrameType::member_done, 3);
  trainer.expect(FrameType::job_done, 3);
  job.group.rank = 1;
  trainer.tell(FrameType::join, 4, encode(GroupAddress{"late"}));
  trainer.tell(FrameType::join, 5, encode(GroupAddress{"there"}));
  trainer.tell(FrameType::job, 5, encode(job));
  trainer.expect(FrameType::job_done, 5);
  trainer.tell(FrameType::job, 6, encode(job));
  trainer.tell(FrameType::join, 6, encode(GroupAddress{"there"}));
  trainer.expect(FrameType::job_done, 6);
}

// What is reported first arrives first: rows before the checkpoint that covers them and before the outcome.
TEST(Session, RowsComeBeforeTheNoticesThatFollowThem) {
  Trainer trainer([](const ArrayJob& job, Reporter& reporter) {
    for (int step = 0; step < 100; ++step)
      for (std::uint32_t member = 0; member < job.members.size(); ++member) report(reporter, member, ttt_row(step));
    reporter.checkpoint({"/x", 100, "ab", 1, false, {0, 1, 2}});
    report(reporter, 1, train_row(7));
    report(reporter, 1, EvaluationRow{100, 0.5, 1, 2, 0, Phase::after, {}});
    all_done(job, reporter);
  });
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(3));
  std::map<std::uint32_t, std::int64_t> next_step;
  Frame frame;
  while ((frame = *trainer.hear()).type == FrameType::rows) {
    const RowBlock block = decode_rows(frame.payload);
    for (const TttStepRow& row : block.ttt_steps) EXPECT_EQ(row.step, next_step[block.header.member]++);
  }
  EXPECT_EQ(next_step, (std::map<std::uint32_t, std::int64_t>{{0, 100}, {1, 100}, {2, 100}}));
  ASSERT_EQ(frame.type, FrameType::checkpoint);
  EXPECT_EQ(decode_checkpoint(frame.payload).step, 100);
  EXPECT_EQ(decode_rows(trainer.expect(FrameType::rows, 1).payload).train_steps.at(0).step, 7);
  EXPECT_EQ(decode_rows(trainer.expect(FrameType::rows, 1).payload).evaluations.at(0).hits, 1);
  for (int i = 0; i < 3; ++i) trainer.expect(FrameType::member_done, 1);
  trainer.expect(FrameType::job_done, 1);
}

// A slow reader sees every row once and in order; the trainer waits for it and keeps no more than its buffers.
TEST(Session, ABusySocketLosesNothing) {
  constexpr std::int64_t kSteps = 200000;
  Trainer trainer([](const ArrayJob& job, Reporter& reporter) {
    std::vector<TttStepRow> rows;
    for (std::int64_t step = 0; step < kSteps;) {
      rows.clear();
      for (int i = 0; i < 3333 && step < kSteps; ++i) rows.push_back(ttt_row(step++));
      reporter.rows(0, std::span<const TttStepRow>(rows));
      report(reporter, 1, train_row(step));
      reporter.progress({step, kSteps, 0, 0, 0, 0});
    }
    all_done(job, reporter);
  });
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(2));
  usleep(300000);  // the socket is full by now, and heartbeats and flushes are due
  std::int64_t next = 0, train_rows = 0;
  while (auto frame = trainer.hear()) {
    if (frame->type == FrameType::job_done) break;
    if (frame->type != FrameType::rows) continue;
    EXPECT_LE(sizeof(FrameHeader) + frame->payload.size(), kMaxRowBlockBytes);
    const RowBlock block = decode_rows(frame->payload);
    for (const TttStepRow& row : block.ttt_steps) ASSERT_EQ(row.step, next++);
    train_rows += static_cast<std::int64_t>(block.train_steps.size());
  }
  EXPECT_EQ(next, kSteps);
  EXPECT_EQ(train_rows, (kSteps + 3332) / 3333);
}

TEST(Session, RowsDoNotWaitForTheNextNotice) {
  Trainer trainer([](const ArrayJob& job, Reporter& reporter) {
    report(reporter, 0, ttt_row(1));
    until_drained(job, reporter);
  });
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(1));
  EXPECT_EQ(decode_rows(trainer.expect(FrameType::rows, 1).payload).ttt_steps.at(0).step, 1);
  trainer.tell(FrameType::drain);
  trainer.expect(FrameType::member_done, 1);
}

TEST(Session, HeartbeatsTellTheProgressOfTheJob) {
  Trainer trainer(until_drained);
  trainer.expect(FrameType::ready, 0);
  EXPECT_EQ(decode_progress(trainer.expect(FrameType::heartbeat, 0, true).payload).steps, 0) << "idle";
  trainer.tell(FrameType::job, 3, job_of(1));
  std::int64_t last = 0;
  for (int beats = 0, rises = 0; rises < 3; ++beats) {
    ASSERT_LT(beats, 400) << "no progress";
    const auto frame = trainer.hear(true);
    ASSERT_TRUE(frame && frame->type == FrameType::heartbeat);
    if (frame->attempt != 3) continue;
    const Progress progress = decode_progress(frame->payload);
    if (progress.steps == 0) continue;  // between the job's start and its first step
    EXPECT_EQ(progress.steps, 100);
    EXPECT_GE(progress.step, last);
    EXPECT_DOUBLE_EQ(progress.diversity, 0.1);
    rises += progress.step > last ? 1 : 0;  // two beats may follow each other faster than two steps
    last = progress.step;
  }
}

TEST(Session, ADrainIsSeenInTheMiddleOfAJobAndCoversWhatIsQueued) {
  Trainer trainer(until_drained);
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(2));
  trainer.tell(FrameType::job, 2, job_of(1));
  trainer.wait_for_a_step(1);
  trainer.tell(FrameType::drain, 1);
  for (int i = 0; i < 2; ++i) {
    const MemberOutcome outcome = decode_outcome(trainer.expect(FrameType::member_done, 1).payload);
    EXPECT_EQ(outcome.status, TrialStatus::stopped);
    EXPECT_GT(outcome.steps, 0);
  }
  trainer.expect(FrameType::job_done, 1);
  EXPECT_EQ(decode_outcome(trainer.expect(FrameType::member_done, 2).payload).steps, 0);
  trainer.expect(FrameType::job_done, 2);

  // A job that comes after the drain is not its business.
  trainer.tell(FrameType::job, 3, job_of(1));
  trainer.wait_for_a_step(3);
  trainer.tell(FrameType::drain, 3);
  EXPECT_GT(decode_outcome(trainer.expect(FrameType::member_done, 3).payload).steps, 0);
}

TEST(Session, EmptyJobsAreAnsweredWithoutComputing) {
  Trainer trainer([](const ArrayJob&, Reporter&) { _exit(55); });
  trainer.expect(FrameType::ready, 0);
  for (std::uint64_t attempt = 1; attempt <= 200; ++attempt) trainer.tell(FrameType::job, attempt, job_of(2, true));
  for (std::uint64_t attempt = 1; attempt <= 200; ++attempt) {
    EXPECT_EQ(decode_outcome(trainer.expect(FrameType::member_done, attempt).payload).status, TrialStatus::done);
    EXPECT_EQ(decode_outcome(trainer.expect(FrameType::member_done, attempt).payload).member, 1);
    trainer.expect(FrameType::job_done, attempt);
  }
}

TEST(Session, AFailedArrayCostsTheArrayAlone) {
  Trainer trainer([](const ArrayJob& job, Reporter& reporter) {
    switch (job.members[0].unit) {
      case 1:
        throw Error(ErrorKind::data, "no such file");
      case 2:
        throw std::bad_alloc();
      case 3:
        throw std::runtime_error("CUDA out of memory. Tried to allocate 2 GiB\nframe #0: somewhere");
      case 4:
        throw std::runtime_error("something\nframe #0: somewhere");
      case 5:
        throw 5;
      case 6:
        return;  // no outcome
      case 7:
        report(reporter, 9, ttt_row(1));
        break;
      case 8:
        reporter.outcome({}), reporter.outcome({});
        break;
      case 9:
        report(reporter, 0, ttt_row(1));
        throw Error(ErrorKind::device, "after a row");
    }
    all_done(job, reporter);
  });
  trainer.expect(FrameType::ready, 0);
  const auto failure = [&](std::int64_t unit) {
    trainer.tell(FrameType::job, unit, job_of(1, false, unit));
    if (unit == 8) trainer.expect(FrameType::member_done, 8);
    if (unit == 9) trainer.expect(FrameType::rows, 9);
    return decode_failure(trainer.expect(FrameType::failure, unit).payload);
  };
  EXPECT_EQ(failure(1).kind, "data error");
  EXPECT_EQ(failure(1).reason, "no such file");
  EXPECT_EQ(failure(2).kind, "device error");
  EXPECT_NE(failure(2).reason.find("out of memory"), std::string::npos);
  EXPECT_EQ(failure(3).kind, "device error");
  EXPECT_NE(failure(3).reason.find("2 GiB"), std::string::npos);
  EXPECT_EQ(failure(3).reason.find("frame"), std::string::npos);
  EXPECT_EQ(failure(4).reason, "something");
  EXPECT_EQ(failure(5).kind, "internal error");
  EXPECT_NE(failure(6).reason.find("outcome for member 0"), std::string::npos);
  EXPECT_NE(failure(7).reason.find("member 9"), std::string::npos);
  EXPECT_NE(failure(8).reason.find("has one already"), std::string::npos);
  EXPECT_EQ(failure(9).reason, "after a row");
  trainer.tell(FrameType::job, 10, R"({"stage": "sleep"})");
  EXPECT_EQ(decode_failure(trainer.expect(FrameType::failure, 10).payload).kind, "communication error");
  trainer.tell(FrameType::job, 11, job_of(1, false, 11));
  trainer.expect(FrameType::member_done, 11);
  trainer.expect(FrameType::job_done, 11);
}

TEST(Session, EndsWhenTheWorkerHangsUp) {
  Trainer idle(all_done);
  idle.expect(FrameType::ready, 0);
  idle.hang_up();
  EXPECT_EQ(idle.end(), exit_code(ErrorKind::communication));

  Trainer computing(until_drained);
  computing.expect(FrameType::ready, 0);
  computing.tell(FrameType::job, 1, job_of(1));
  computing.wait_for_a_step(1);
  computing.hang_up();
  EXPECT_EQ(computing.end(), exit_code(ErrorKind::communication));

  Trainer writing([](const ArrayJob&, Reporter& reporter) {
    while (true) report(reporter, 0, ttt_row(1));
  });
  writing.expect(FrameType::ready, 0);
  writing.tell(FrameType::job, 1, job_of(1));
  usleep(100000);  // blocked in a write by now
  writing.hang_up();
  EXPECT_EQ(writing.end(), exit_code(ErrorKind::communication));
}

TEST(Session, EndsWhenTheWorkerFallsSilentAndOnlyThen) {
  SessionOptions options = quick();
  options.alive_timeout = milliseconds(1000);
  Trainer trainer(until_drained, options);
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(1));
  auto silent_since = steady_clock::now();
  for (int i = 0; i < 15; ++i) {
    usleep(100000);
    ASSERT_EQ(waitpid(trainer.pid(), nullptr, WNOHANG), 0) << "ended though the worker speaks";
    silent_since = steady_clock::now();
    trainer.tell(FrameType::alive);
  }
  EXPECT_EQ(trainer.end(), exit_code(ErrorKind::communication));
  EXPECT_GE(steady_clock::now() - silent_since, milliseconds(900));
}

// Also when the socket is full and the computing thread waits in a write.
TEST(Session, ASilentWorkerThatDoesNotReadIsLeft) {
  SessionOptions options = quick();
  options.alive_timeout = milliseconds(300);
  Trainer trainer(
      [](const ArrayJob&, Reporter& reporter) {
        while (true) report(reporter, 0, ttt_row(1));
      },
      options);
  trainer.tell(FrameType::job, 1, job_of(1));
  EXPECT_EQ(trainer.end(), exit_code(ErrorKind::communication));
}

TEST(Session, EndsAtOnceWhenToldInTheMiddleOfAJob) {
  Trainer trainer(until_drained);
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(1));
  trainer.wait_for_a_step(1);
  trainer.tell(FrameType::shutdown);
  EXPECT_EQ(trainer.end(), 0);
}

TEST(Session, EndsWhenTheWorkerSpeaksNonsense) {
  Trainer noise(all_done);
  noise.expect(FrameType::ready, 0);
  noise.tell_bytes(std::string(64, 'x'));
  EXPECT_EQ(noise.end(), exit_code(ErrorKind::communication));
  Trainer reversed(all_done);
  reversed.expect(FrameType::ready, 0);
  reversed.tell(FrameType::job_done, 1, "{}");
  EXPECT_EQ(reversed.end(), exit_code(ErrorKind::communication));
}

TEST(Session, WantsASocket) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_THROW(Session(ends[0], quick()), Error);
  EXPECT_THROW(Session(-1, quick()), Error);
  close(ends[0]);
  close(ends[1]);
}

// A process whose parent is killed goes with it, whatever it does.
TEST(Session, DiesWithItsParent) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    const pid_t self = getpid();
    if (fork() == 0) {
      die_with_parent(self);
      (void)!write(ends[1], "x", 1);
      while (true) pause();
    }
    while (true) pause();
  }
  close(ends[1]);
  char byte = 0;
  ASSERT_EQ(read(ends[0], &byte, 1), 1);
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  EXPECT_EQ(read(ends[0], &byte, 1), 0) << "the grandchild still holds the pipe";
  close(ends[0]);
}

TEST(SessionOptions, TakeTheTimeoutFromTheEnvironment) {
  setenv("TENFOLD_ALIVE_TIMEOUT_S", "2.5", 1);
  EXPECT_EQ(SessionOptions::from_environment().alive_timeout, milliseconds(2500));
  for (const char* wrong : {"soon", "0", "-1", "nan", "5s"}) {
    setenv("TENFOLD_ALIVE_TIMEOUT_S", wrong, 1);
    EXPECT_THROW(SessionOptions::from_environment(), Error) << wrong;
  }
  unsetenv("TENFOLD_ALIVE_TIMEOUT_S");
  EXPECT_EQ(SessionOptions::from_environment().alive_timeout, milliseconds(15000));
}

// Faults of TENFOLD_FAULT reach a running array through the session's progress.
class SessionFault : public ::testing::Test {
 protected:
  void TearDown() override { unsetenv("TENFOLD_FAULT"); }
  static void ten_steps(const ArrayJob& job, Reporter& reporter) {
    for (int step = 1; step <= 10; ++step) {
      report(reporter, 0, train_row(step));
      reporter.progress({step, 10, 0, 0, 0, 0});
    }
    all_done(job, reporter);
  }
};

TEST_F(SessionFault, EndsTheProcessInTheNamedWay) {
  for (const auto& [fault, status] : std::map<std::string, int>{
           {"kill@step:5", 128 + SIGKILL}, {"segv@step:5", 128 + SIGSEGV}, {"exit0@step:5", 0}}) {
    setenv("TENFOLD_FAULT", fault.c_str(), 1);
    Trainer trainer(ten_steps);
    trainer.expect(FrameType::ready, 0);
    trainer.tell(FrameType::job, 1, job_of(1));
    EXPECT_EQ(trainer.end(), status) << fault;
  }
}

TEST_F(SessionFault, StrikesTheNamedUnitOnly) {
  setenv("TENFOLD_FAULT", "throw@step:5,only=12", 1);
  Trainer trainer(ten_steps);
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(2, false, 12));
  std::size_t rows = 0;
  const Frame failure = trainer.after_rows(rows);
  EXPECT_EQ(rows, 5u);
  ASSERT_EQ(failure.type, FrameType::failure);
  EXPECT_NE(decode_failure(failure.payload).reason.find("step 5"), std::string::npos);
  trainer.tell(FrameType::job, 2, job_of(1, false, 14));
  EXPECT_EQ(trainer.after_rows(rows).type, FrameType::member_done);
  EXPECT_EQ(rows, 10u);
}

TEST_F(SessionFault, AHangingArrayStillBeats) {
  setenv("TENFOLD_FAULT", "hang@step:5", 1);
  Trainer trainer(ten_steps);
  trainer.expect(FrameType::ready, 0);
  trainer.tell(FrameType::job, 1, job_of(1));
  trainer.expect(FrameType::rows, 1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(decode_progress(trainer.expect(FrameType::heartbeat, 1, true).payload).step, 5);
  EXPECT_EQ(waitpid(trainer.pid(), nullptr, WNOHANG), 0);
}

}  // namespace
}  // namespace tenfold
