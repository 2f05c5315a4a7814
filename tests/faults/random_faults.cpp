#include "tests/faults/random_faults.h"
#include "experiments/file_text.h"

#include <gmock/gmock.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <sstream>
#include <thread>

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;
using testing::AnyOf;
using testing::Eq;
using testing::HasSubstr;

constexpr int kCommunication = 5;             // exit code
constexpr auto kComesThrough = seconds(200);  // seconds, where there is nothing else to do
constexpr auto kGone = seconds(5);
// A drain takes 10 s at most, which the coordinator itself sees to and the store tells; the rest is for a busy machine
// to end the processes.
constexpr auto kDrained = seconds(20);

bool lives(const Workspace& work, pid_t pid) { return std::ranges::count(work.processes(), pid) > 0; }

// Whether the process has said what a signal should do to it.
bool takes(pid_t pid, int signal) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("SigBlk:") || line.starts_with("SigCgt:"))
      if ((std::stoull(line.substr(7), nullptr, 16) >> (signal - 1)) & 1u) return true;
  return false;
}

}  // namespace

std::string to_string(Victim victim) {
  constexpr const char* kNames[] = {"front", "mpirun", "coordinator", "worker", "trainer", "everything"};
  return kNames[static_cast<int>(victim)];
}

pid_t RandomFaults::start_and_wait() {
  expected();
  const pid_t front = work_.start(run(db()));
  sleep_s(random_s(0.01, std::max(0.5, calm_s())));
  return front;
}

// They may not be there yet, or not any more: then nobody.
std::vector<pid_t> RandomFaults::await_victims(Victim victim, pid_t front) {
  while (true) {
    std::vector<pid_t> found;
    if (victim == Victim::everything) return work_.processes();
    if (victim == Victim::front) found = {front};
    if (victim == Victim::mpirun)
      for (const pid_t pid : work_.processes("enable-recovery")) found.push_back(pid);
    if (victim == Victim::coordinator) found = {rank_process(work_, 0)};
    if (victim == Victim::worker) found = {rank_process(work_, 1 + static_cast<int>(random_() % 2))};
    if (victim == Victim::trainer) found = work_.processes("tenfold-trainer");
    std::erase(found, -1);
    if (!found.empty()) return {found[random_() % found.size()]};
    if (!lives(work_, front)) return {};
    sleep_s(0.01);
  }
}

// A run that was struck before it had begun starts its processes again instead of ending.
bool RandomFaults::starts_again() const {
  for (const auto limit = Clock::now() + seconds(40); Clock::now() < limit && !work_.processes().empty();
       sleep_s(0.02)) {
    const std::string said = file_text(work_.file("output")).value_or("");
    if (said.find("starting again") != std::string::npos) return true;
  }
  return false;
}

void RandomFaults::kill_at_random(Victim victim) {
  const pid_t front = start_and_wait();
  const std::vector<pid_t> victims = await_victims(victim, front);
  const auto struck = Clock::now();
  for (const pid_t pid : victims) ::kill(pid, SIGKILL);
  const bool goes_on = victim == Victim::worker || victim == Victim::trainer;
  const std::string what = "SIGKILL to " + to_string(victim);
  if (!goes_on && !victims.empty() && !(victim == Victim::coordinator && starts_again())) {
    expect_none_left(work_, kGone);
    counts_.longest_end_s =
        std::max(counts_.longest_end_s, std::chrono::duration<double>(Clock::now() - struck).count());
  }
  const Finished finished = work_.wait(front, kComesThrough);
  if (victim == Victim::front || victim == Victim::everything) {
    EXPECT_THAT(finished.exit_code, AnyOf(Eq(0), Eq(128 + SIGKILL))) << what << "\n" << finished.output;
  } else if (goes_on) {
    EXPECT_EQ(finished.exit_code, 0) << what << "\n" << finished.output;
  } else if (finished.exit_code != 0) {
    EXPECT_EQ(finished.exit_code, kCommunication) << what << "\n" << finished.output;
    EXPECT_THAT(finished.output, AnyOf(HasSubstr("run the same command again"), HasSubstr("did not start"))) << what;
  }
  after(finished, what);
}

// Before its first lines a program has no say in what a signal does to it.
void RandomFaults::send_when_taken(const std::vector<pid_t>& victims, int signal) const {
  while (!victims.empty() && !takes(victims[0], signal) && lives(work_, victims[0])) sleep_s(0.002);
  for (const pid_t pid : victims) ::kill(pid, signal);
}

void RandomFaults::insist_on_stopping_at_random() {
  const pid_t front = start_and_wait();
  send_when_taken({front}, SIGINT);
  sleep_s(random_s(0, 0.3));
  ::kill(front, SIGINT);
  const Finished finished = work_.wait(front, kComesThrough);
  expect_none_left(work_, kGone);
  EXPECT_THAT(finished.exit_code, AnyOf(Eq(0), Eq(128 + SIGINT))) << finished.output;
  after(finished, "SIGINT twice to the front");
}

void RandomFaults::ask_to_stop_at_random(Victim front_or_mpirun, int signal) {
  const Told before = told();
  const pid_t front = start_and_wait();
  send_when_taken(await_victims(front_or_mpirun, front), signal);
  const auto struck = Clock::now();
  const Finished finished = work_.wait(front, kComesThrough);
  const auto took = Clock::now() - struck;
  const std::string name = std::string("SIG") + sigabbrev_np(signal);
  const std::string what = name + " to " + to_string(front_or_mpirun);
  SCOPED_TRACE(what + "\n" + finished.output);
  expect_none_left(work_, kGone);
  const int preempted = front_or_mpirun == Victim::front && signal == SIGINT ? 130 : 75;
  EXPECT_THAT(finished.exit_code, AnyOf(Eq(0), Eq(preempted)));
  if (finished.exit_code == preempted) {
    counts_.longest_drain_s = std::max(counts_.longest_drain_s, std::chrono::duration<double>(took).count());
    EXPECT_LT(took, kDrained);
    EXPECT_THAT(finished.output, HasSubstr("run the same command again"));
    if (finished.output.find("Stopped with ") != std::string::npos) {
      // Asked to end, mpirun asks its processes by SIGTERM.
      expect_drained(before, front_or_mpirun == Victim::front || signal == SIGUSR2 ? name : "SIGTERM");
      ++counts_.drained;
    } else {
      EXPECT_THAT(finished.output, AnyOf(HasSubstr("Stopped at once"), HasSubstr("Stopped before anything was begun")));
      EXPECT_EQ(told().last_attempt, before.last_attempt) << "it was given up where it should have been drained";
      ++counts_.before_begun;
    }
  }
  after(finished, what);
}

RandomFaults::Told RandomFaults::told() const {
  Told told;
  if (!std::filesystem::exists(work_.file(db()))) return told;
  std::istringstream(work_.query(db(), "SELECT coalesce(max(id), 0) FROM attempt")) >> told.last_attempt;
  std::istringstream(work_.query(db(), "SELECT count(*) FROM event WHERE kind = 'drain'")) >> told.drains;
  return told;
}

void RandomFaults::expect_drained(const Told& before, const std::string& asked_by) {
  EXPECT_EQ(told().drains, before.drains + 1);
  EXPECT_EQ(work_.query(db(), "SELECT detail FROM event WHERE kind = 'drain' ORDER BY id DESC LIMIT 1"),
            "asked by " + asked_by + " to stop at the next step\n");
  EXPECT_EQ(work_.query(db(), "SELECT id FROM attempt WHERE outcome = 'running'"), "");
  EXPECT_EQ(work_.query(db(), "SELECT id FROM attempt WHERE reason = 'stopped before its next step'"), "")
      << "the drain's 10 s did not suffice";
  // What was under way has a checkpoint of its last step: nothing of it is computed twice.
  EXPECT_EQ(work_.query(db(),
                        "SELECT t.id FROM trial t WHERE t.status = 'stopped' AND (SELECT max(step) FROM ttt_step s "
                        "WHERE s.trial = t.id) IS NOT (SELECT max(step) FROM checkpoint c WHERE c.trial = t.id)"),
            "");
  EXPECT_EQ(work_.query(db(),
                        "SELECT f.id FROM fit f WHERE f.status = 'stopped' AND (SELECT max(step) FROM train_step s "
                        "WHERE s.fit = f.id) IS NOT (SELECT max(step) FROM checkpoint c WHERE c.fit = f.id)"),
            "");
}

void RandomFaults::after(const Finished& finished, const std::string& what) {
  ++counts_.strikes;
  ++counts_.by_kind[what];
  SCOPED_TRACE(what);
  if (finished.exit_code == 0) {
    ++counts_.through;
    store_is_finished();
  } else {
    expect_none_left(work_, kGone);
    if (!std::filesystem::exists(work_.file(db()))) return;
    expect_sound(work_, db());
    std::istringstream open(work_.query(db(), "SELECT id FROM attempt WHERE outcome = 'running'"));
    for (std::int64_t id = 0; open >> id;) cut_short_.insert(id);
  }
}

void RandomFaults::store_is_finished() {
  expect_as_undisturbed(work_, db(), expected());
  // The runs that followed found what was cut short, and told.
  std::string lost;
  for (const std::int64_t id : cut_short_) lost += std::to_string(id) + "\n";
  EXPECT_EQ(work_.query(db(), "SELECT id FROM attempt WHERE reason = 'the run ended without a word' ORDER BY id"),
            lost);
  EXPECT_EQ(work_.query(db(),
                        "SELECT coalesce(sum(CAST(substr(detail, instr(detail, 'under way: ') + 11) AS INTEGER)), 0) "
                        "FROM event WHERE kind = 'run_lost'"),
            std::to_string(cut_short_.size()) + "\n");
  counts_.cut_short += static_cast<int>(cut_short_.size());
  cut_short_.clear();
  counts_.resumed += std::stoi(work_.query(db(), "SELECT count(*) FROM attempt WHERE resumed_from_step > 0"));
  for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(work_.file(db() + suffix));
  ++counts_.stores;
}

void RandomFaults::finish_last() {
  const Finished finished = complete(db());
  ASSERT_EQ(finished.exit_code, 0) << finished.output;
  store_is_finished();
}

}  // namespace tenfold
