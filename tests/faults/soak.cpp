// faults_soak [--kills=200] [--signals=100] [--twice=25] [--seed=1]: as random_faults_test, for about half an hour,
// with its counts at the end. Finds the programs beside itself.
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "tests/faults/random_faults.h"

namespace tenfold {
namespace {

struct SoakOptions {
  int kills = 200, signals = 100, twice = 25;
  unsigned seed = 1;
};
SoakOptions options;

class Soak : public RandomFaults {
 protected:
  void report(const char* what) {
    const Counts& c = counts();
    std::printf(
        "%s: %d strikes on %d stores; %d runs came through, %d were drained, %d had not begun; %d attempts were cut "
        "short, "
        "%d went on from a step after 0; the last process was gone %.2f s after a kill at the latest, the longest stop "
        "took %.2f s\n",
        what, c.strikes, c.stores, c.through, c.drained, c.before_begun, c.cut_short, c.resumed, c.longest_end_s,
        c.longest_drain_s);
    for (const auto& [kind, count] : c.by_kind) std::printf("  %4d  %s\n", count, kind.c_str());
    std::fflush(stdout);
  }
};

TEST_F(Soak, KillsAtRandomInstants) {
  random_.seed(options.seed);
  use(kTables);
  for (int i = 0; i < options.kills && !HasFailure(); ++i) kill_at_random(kVictims[random_() % std::size(kVictims)]);
  if (!HasFailure()) finish_last();
  report("kills");
}

TEST_F(Soak, SignalsAtRandomInstants) {
  random_.seed(options.seed + 1);
  use(kSequences);
  constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR2};
  for (int i = 0; i < options.signals && !HasFailure(); ++i)
    ask_to_stop_at_random(random_() % 2 == 0 ? Victim::front : Victim::mpirun, kSignals[random_() % 3]);
  if (!HasFailure()) finish_last();
  report("signals");
  EXPECT_LT(counts().longest_drain_s, 10) << "on a machine that does nothing else";
}

TEST_F(Soak, AskedTwiceAtRandomInstants) {
  random_.seed(options.seed + 2);
  use(kSequences);
  for (int i = 0; i < options.twice && !HasFailure(); ++i) insist_on_stopping_at_random();
  if (!HasFailure()) finish_last();
  report("asked twice");
}

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const std::size_t equals = word.find('=');
    const int value = equals == std::string_view::npos ? -1 : std::atoi(argv[i] + equals + 1);
    if (value >= 0 && word.starts_with("--kills=")) {
      tenfold::options.kills = value;
    } else if (value >= 0 && word.starts_with("--signals=")) {
      tenfold::options.signals = value;
    } else if (value >= 0 && word.starts_with("--twice=")) {
      tenfold::options.twice = value;
    } else if (value >= 0 && word.starts_with("--seed=")) {
      tenfold::options.seed = static_cast<unsigned>(value);
    } else {
      std::fprintf(stderr, "faults_soak [--kills=200] [--signals=100] [--twice=25] [--seed=1]\n");
      return 2;
    }
  }
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe");
  ::setenv("TENFOLD_BIN_DIR", (self.parent_path().parent_path() / "bin").c_str(), 0);
  return RUN_ALL_TESTS();
}
