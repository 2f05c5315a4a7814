#include "runner/progress.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "experiments/error.h"

namespace tenfold {
namespace {

ProgressSnapshot halfway() {
  ProgressSnapshot s;
  s.fits_total = 5;
  s.fits_done = 5;
  s.trials_total = 60;
  s.trials_done = 32;
  s.arrays_running = 2;
  s.slots = 2;
  s.slots_busy = 2;
  s.updates_per_s = 1234.4;
  s.eta_s = 4.2;
  s.total = 1.2344;
  s.entropy = 0.9;
  s.diversity = 0.3;
  s.elapsed_s = 65;
  return s;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() { close(fd_); }
  int get() const { return fd_; }

 private:
  int fd_;
};

std::string read_available(int fd) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  std::string text(1 << 16, '\0');
  const ssize_t n = read(fd, text.data(), text.size());
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

TEST(ProgressLine, LossesAreShownOnceTheyAreMeasured) {
  Progress progress;  // what a trainer's heartbeat says before the first pass: zeros
  EXPECT_FALSE(has_losses(progress));
  progress.steps = 50;
  progress.total = 1.2;
  EXPECT_TRUE(has_losses(progress));
  progress.total = std::numeric_limits<double>::quiet_NaN();  // the method `source`
  EXPECT_FALSE(has_losses(progress));
}

TEST(ProgressLine, ARateThatIsNotKnownYetIsNotZero) {
  ProgressSnapshot s = halfway();
  s.updates_per_s = 0;
  EXPECT_EQ(progress_line(s, 200).find("steps/s"), std::string::npos);
}

TEST(ProgressLine, SaysWhatAWaitingUserWantsToKnow) {
  EXPECT_EQ(
      progress_line(halfway(), 200),
      "[###########.........] 32/60 trials, 5/5 fits, 2 running, 1,234 steps/s, ETA 0:04, total 1.234 entropy 0.900 "
      "diversity 0.300");
}

TEST(ProgressLine, NeverWiderThanTheTerminal) {
  ProgressSnapshot s = halfway();
  s.trials_failed = 3;
  for (int width = 0; width <= 200; ++width) {
    EXPECT_LE(progress_line(s, width).size(), static_cast<std::size_t>(width)) << width;
  }
  // Failures outlive speed and losses when room is short; the counts outlive the bar.
  EXPECT_NE(progress_line(s, 60).find("3 failed"), std::string::npos);
  EXPECT_EQ(progress_line(s, 20), "32/60 trials");
}

TEST(ProgressLine, LeavesOutWhatIsNotKnown) {
  ProgressSnapshot s = halfway();
  s.eta_s = -1;
  s.total = s.entropy = s.diversity = std::numeric_limits<double>::quiet_NaN();
  s.updates_per_s = std::numeric_limits<double>::infinity();
  const std::string line = progress_line(s, 200);
  EXPECT_EQ(line, "[###########.........] 32/60 trials, 5/5 fits, 2 running");
}

TEST(ProgressLine, TimesOfAnyLengthAndNumbersOfAnySize) {
  ProgressSnapshot s = halfway();
  s.eta_s = 3 * 3600 + 62;
  EXPECT_NE(progress_line(s, 200).find("ETA 3:01:02"), std::string::npos);
  s.eta_s = 2.5 * 86400;
  EXPECT_NE(progress_line(s, 200).find("ETA 2d 12h"), std::string::npos);
  s.eta_s = 1e300;
  EXPECT_EQ(progress_line(s, 200).find("ETA"), std::string::npos);
  s.updates_per_s = 1e300;
  s.total = -1e300;
  EXPECT_LE(progress_line(s, 80).size(), 80U);
}

TEST(ProgressLine, NothingPlannedAndEverythingDone) {
  EXPECT_EQ(progress_line(ProgressSnapshot{}, 48), "[....................] 0/0 trials, 0/0 fits");
  ProgressSnapshot s = halfway();
  s.trials_done = 57;
  s.trials_failed = 3;
  const std::string line = progress_line(s, 200);
  EXPECT_EQ(line.rfind("[####################] 57/60 trials, 5/5 fits, 3 failed, took 1:05", 0), 0U) << line;
  EXPECT_EQ(line.find("running"), std::string::npos);
}

TEST(ProgressLine, SaysHowManySlotsAreBusyWhereArraysTakeSeveral) {
  ProgressSnapshot s = halfway();
  s.slots_busy = 5;
  EXPECT_NE(progress_line(s, 200).find("2 running on 5 slots, "), std::string::npos);
}

TEST(ProgressSnapshotJson, KeepsEveryValueAndNan) {
  ProgressSnapshot s = halfway();
  s.trials_failed = 7;
  s.diversity = std::numeric_limits<double>::quiet_NaN();
  const ProgressSnapshot back = decode_snapshot(encode(s));
  EXPECT_EQ(back.fits_total, 5);
  EXPECT_EQ(back.fits_done, 5);
  EXPECT_EQ(back.trials_total, 60);
  EXPECT_EQ(back.trials_done, 32);
  EXPECT_EQ(back.trials_failed, 7);
  EXPECT_EQ(back.arrays_running, 2);
  EXPECT_EQ(back.slots, 2);
  EXPECT_EQ(back.slots_busy, 2);
  EXPECT_EQ(back.updates_per_s, s.updates_per_s);
  EXPECT_EQ(back.eta_s, s.eta_s);
  EXPECT_EQ(back.total, s.total);
  EXPECT_EQ(back.entropy, s.entropy);
  EXPECT_TRUE(std::isnan(back.diversity));
  EXPECT_EQ(back.elapsed_s, s.elapsed_s);
}

TEST(ProgressSnapshotJson, RefusesWhatIsMalformed) {
  for (const char* text : {"", "{}", "[1]", "{\"fits_total\": \"many\"}", "\xff"}) {
    EXPECT_THROW(decode_snapshot(text), Error) << text;
  }
}

TEST(ProgressView, OneLineAMinuteInALog) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Descriptor reader(ends[0]), writer(ends[1]);
  {
    ProgressView view(writer.get(), false);
    for (int i = 0; i < 5; ++i) view.show(halfway());
    view.note("trial 3 is tried again");
    ProgressSnapshot done = halfway();
    done.trials_done = 60;
    view.show(done);
    view.show(done);
  }
  const std::string text = read_available(reader.get());
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text;  // the first, the note, the closing one
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST(ProgressView, QuietKeepsNotesOnly) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const Descriptor reader(ends[0]), writer(ends[1]);
  ProgressView view(writer.get(), true);
  view.show(halfway());
  view.note("worker 2 is lost");
  EXPECT_EQ(read_available(reader.get()), "worker 2 is lost\n");
}

TEST(ProgressView, RewritesOneBarWithinTheWidthOfTheTerminal) {
  int master = -1, terminal = -1;
  winsize size{};
  size.ws_row = 24;
  size.ws_col = 50;
  ASSERT_EQ(openpty(&master, &terminal, nullptr, nullptr, &size), 0);
  const Descriptor master_owner(master), terminal_owner(terminal);
  {
    ProgressView view(terminal, false);
    view.show(halfway());
    std::string text = read_available(master);
    EXPECT_EQ(text.rfind("\r\x1b[2K[", 0), 0U);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_LE(text.size() - 5, 49U);  // without the erasing sequence; the last column stays free
    size.ws_col = 20;
    ASSERT_EQ(ioctl(terminal, TIOCSWINSZ, &size), 0);
    view.show(halfway());
    EXPECT_EQ(read_available(master), "\r\x1b[2K32/60 trials");
    view.note("stopping");
    EXPECT_EQ(read_available(master), "\r\x1b[2Kstopping\r\n");
    view.show(halfway());
    read_available(master);
  }
  EXPECT_EQ(read_available(master), "\r\n");
}

}  // namespace
}  // namespace tenfold
