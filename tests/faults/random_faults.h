#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "tests/faults/fault_run.h"

namespace tenfold {

enum class Victim { front, mpirun, coordinator, worker, trainer, everything };
inline constexpr Victim kVictims[] = {Victim::front,  Victim::mpirun,  Victim::coordinator,
                                      Victim::worker, Victim::trainer, Victim::everything};
std::string to_string(Victim victim);

// Runs of one experiment that are struck at random instants, one after another, on one store: each begins where the one
// before was struck. A run that comes through is held to the undisturbed one, and the next begins with a new store, so
// that the number of strikes does not depend on how fast the machine is.
class RandomFaults : public FaultRun {
 public:
  struct Counts {
    int strikes = 0, through = 0;       // of all; runs that were done nevertheless
    int drained = 0, before_begun = 0;  // stopped in order, as the store tells; stopped before they had begun
    int stores = 0, resumed = 0;        // finished; attempts in them that went on from a step after 0
    int cut_short = 0;                  // attempts in them that the end of their run ended
    double longest_end_s = 0;           // from a strike that ends the run to the end of its last process
    double longest_drain_s = 0;         // from a signal to the end of the run that it stopped
    std::map<std::string, int> by_kind;
  };

 protected:
  // SIGKILL. A front or everything killed leaves nothing behind; a coordinator or mpirun neither, and the front says
  // what to do; a worker or trainer costs attempts only.
  void kill_at_random(Victim victim);
  // A signal that asks to stop, to the front or to mpirun: drained with a checkpoint of what was computed, within 10 s,
  // and the store tells of the signal. Only where nothing has been begun yet may the run just end.
  void ask_to_stop_at_random(Victim front_or_mpirun, int signal);
  // SIGINT, and soon again, before or after the run has ended of the first: it ends at once.
  void insist_on_stopping_at_random();
  // The last store is finished, too.
  void finish_last();
  const Counts& counts() const { return counts_; }

 private:
  // What the store has of the runs so far; none where there is no store yet.
  struct Told {
    std::int64_t last_attempt = 0, drains = 0;
  };
  Told told() const;
  void expect_drained(const Told& before, const std::string& asked_by);

  std::string db() const { return "store-" + std::to_string(counts_.stores) + ".db"; }
  pid_t start_and_wait();
  std::vector<pid_t> await_victims(Victim victim, pid_t front);
  void send_when_taken(const std::vector<pid_t>& victims, int signal) const;
  bool starts_again() const;
  void after(const Finished& finished, const std::string& what);
  void store_is_finished();

  Counts counts_;
  std::set<std::int64_t> cut_short_;  // attempts of the present store that runs left open
};

}  // namespace tenfold
