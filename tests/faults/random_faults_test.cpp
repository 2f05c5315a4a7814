// Any process of a run is killed, or asked to stop, at random instants from its first to its last moment. The soak
// (soak.cpp) does the same for longer.
#include "tests/faults/random_faults.h"

#include <signal.h>

namespace tenfold {
namespace {

constexpr int kInstants = 3;

class RandomKills : public RandomFaults, public testing::WithParamInterface<Victim> {
  void SetUp() override { use(kTables); }
};

TEST_P(RandomKills, LeaveNothingBehindAndChangeNoBit) {
  random_.seed(static_cast<unsigned>(GetParam()) + 7);
  for (int i = 0; i < kInstants; ++i) kill_at_random(GetParam());
  finish_last();
}

INSTANTIATE_TEST_SUITE_P(Victims, RandomKills, testing::ValuesIn(kVictims),
                         [](const auto& info) { return to_string(info.param); });

class RandomStops : public RandomFaults {
 protected:
  void SetUp() override { use(kSequences); }
  // On a machine that is now busy, now idle, every run may come through before its signal.
  void until_one_is_drained(Victim front_or_mpirun) {
    for (int i = 0; i < 8 && counts().drained == 0; ++i) ask_to_stop_at_random(front_or_mpirun, SIGTERM);
    EXPECT_GT(counts().drained, 0);
  }
};

TEST_F(RandomStops, OfTheFrontAreDrained) {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR2, SIGHUP}) ask_to_stop_at_random(Victim::front, signal);
  ask_to_stop_at_random(Victim::front, SIGUSR2);
  ask_to_stop_at_random(Victim::front, SIGTERM);
  until_one_is_drained(Victim::front);
  finish_last();
}

TEST_F(RandomStops, AskedForTwiceLoseNothing) {
  for (int i = 0; i < 4; ++i) insist_on_stopping_at_random();
  finish_last();
}

TEST_F(RandomStops, OfMpirunAreDrained) {
  for (const int signal : {SIGUSR2, SIGTERM, SIGINT, SIGUSR2, SIGTERM, SIGINT})
    ask_to_stop_at_random(Victim::mpirun, signal);
  until_one_is_drained(Victim::mpirun);
  finish_last();
}

}  // namespace
}  // namespace tenfold
