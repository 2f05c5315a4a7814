#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <vector>

#include "experiments/records.h"
#include "trainer/protocol.h"

// Which fits and trials are computed next, and how many as one array. No MPI, no clock, no store: the coordinator
// asks and tells.
namespace tenfold {

// A fit or a trial as the scheduler sees it. `unit` numbers count the fits first, then the trials.
struct WorkItem {
  Stage stage = Stage::fit;
  std::int32_t key = 0;    // units of one stage with equal keys may share an array
  std::int32_t fit = -1;   // trials: the unit that must be done before
  float cost = 1;          // relative; see schedule_cost.h
  float member_bytes = 0;  // of device memory, in an array; 0: not known
  std::int32_t ranks = 1;  // slots that compute it together
};

struct ArraySizing {
  int slots = 1;
  int max_array = 8;  // members computed as one
  int efficient = 4;  // arrays smaller than this cost nearly as much: made only where slots would idle
};
ArraySizing cpu_sizing(int slots, int max_array);  // max_array 0: the default
ArraySizing gpu_sizing(int slots, int max_array);

struct PlannedArray {
  Stage stage = Stage::fit;
  std::int64_t resume_step = -1;  // -1: from the start
  std::vector<std::int32_t> units;
  std::int32_t ranks = 1;    // slots that it takes
  std::uint64_t passed = 0;  // number of the waiting array that it was let past; 0: of none
};

// The slots as they are when an array is asked for.
struct Room {
  struct Busy {
    double cost_left = 0;      // until the slot is free
    std::uint64_t passed = 0;  // of the array that it computes
  };
  int free = 1;  // slots that would start an array at once
  std::vector<Busy> busy;
};

// An array that needs more slots than are free waits for them, and they are kept for it: others may start meanwhile if
// by their costs they are over before it can start, or leave it slots enough. Costs may be wrong: once it waits for
// such others alone, no more are let past it. So it gets its turn, and a slot is idle only when whatever fits would
// delay it.
class Scheduler {
 public:
  // Units for which `done` holds are over already; trials whose fit is not done wait for it.
  Scheduler(std::vector<WorkItem> items, ArraySizing sizing, int retries);

  // The unit can run: alone or with others that start from the same step. Fits are made ready by the owner at the
  // start, trials when their fit is done.
  void make_ready(std::int32_t unit, std::int64_t resume_step);
  // An array takes its slots' share of what is ready and under way, so that all slots end together. `progressed` is the
  // part of what is under way that is computed already, as cost.
  struct Progressed {
    double fits = 0, trials = 0;
  };
  std::optional<PlannedArray> next(const Progressed& progressed, const Room& room);
  std::optional<PlannedArray> next(const Progressed& progressed) { return next(progressed, Room{sizing_.slots, {}}); }
  std::optional<PlannedArray> next() { return next(Progressed{}); }
  bool next_is_group() const;  // whether what comes next takes several slots
  // What an array may take of a device; 0: no bound.
  void set_array_memory(double bytes) { array_memory_bytes_ = bytes; }
  // Fewer slots are left. What is ready and needs more of them than that is given up and returned.
  void set_slots(int slots) { sizing_.slots = std::max(1, slots); }
  std::vector<std::int32_t> give_up_too_large();
  bool has_ready() const { return !retries_.empty() || ready_count_[0] + ready_count_[1] > 0; }

  // What became of members of a dispatched array.
  void finished(std::int32_t unit);
  void returned(std::int32_t unit) { land(unit); }  // it was never started, or stopped
  // The array crashed, hung or failed as a whole with these members left. An array of several is halved and tried
  // again, which counts against nobody; a unit alone has failed once more. Returns the unit that has failed for good.
  // `was_alone`: the array was made of one.
  std::optional<std::int32_t> crashed(std::span<const std::int32_t> units, std::span<const std::int64_t> resume_steps,
                                      bool was_alone);
  // One member failed by itself: it is tried alone. As above.
  std::optional<std::int32_t> member_failed(std::int32_t unit, std::int64_t resume_step, bool was_alone);
  // It is tried alone, and nothing counts against it.
  void try_alone(std::int32_t unit, std::int64_t resume_step) { push_retry({{unit, resume_step}}); }
  // Its worker is gone, which says little about the members: as it was, up to five times.
  std::optional<std::int32_t> worker_lost(std::int32_t unit, std::int64_t resume_step);

  // A fit that was over has to be computed again: what it left is lost.
  void reopen(std::int32_t fit) { items_[static_cast<std::size_t>(fit)].over = false; }

  bool over(std::int32_t unit) const { return items_[static_cast<std::size_t>(unit)].over; }
  bool in_flight(std::int32_t unit) const { return items_[static_cast<std::size_t>(unit)].in_flight; }
  const WorkItem& item(std::int32_t unit) const { return items_[static_cast<std::size_t>(unit)]; }
  int failures(std::int32_t unit) const { return items_[static_cast<std::size_t>(unit)].failures; }

 private:
  struct Item : WorkItem {
    std::int32_t failures = 0;  // attempts of this unit alone that failed
    std::int32_t lost = 0;      // attempts that a worker took with it
    bool over = false, in_flight = false;
  };
  struct GroupKey {
    Stage stage;
    std::int32_t key;
    std::int64_t resume_step;
    std::int32_t ranks;
    auto operator<=>(const GroupKey&) const = default;
  };
  struct Entry {
    float cost;
    std::int32_t unit;
    // Longest first; equal ones in the order of the plan.
    bool operator<(const Entry& o) const { return cost != o.cost ? cost < o.cost : unit > o.unit; }
  };

  using Groups = std::map<GroupKey, std::priority_queue<Entry>>;
  // An array that waits for slots: the first of `retries_`, or of a group.
  struct Waiting {
    std::optional<GroupKey> group;
    std::uint64_t number = 0;
  };
  // What may pass a waiting array.
  struct Gap {
    int free = 0, spare = 0;  // slots; those that it will not need
    double cost = 0;          // on each slot, until it can start
  };

  int array_size(const GroupKey& key, std::size_t group_units, const Item& largest, const Progressed& progressed) const;
  Groups::iterator first_group();
  Gap gap_before(std::int32_t ranks, const Room& room) const;
  std::optional<PlannedArray> pass(const Gap& gap, const Progressed& progressed);
  PlannedArray take_retry(std::size_t index);
  PlannedArray take(Groups::iterator group, const Progressed& progressed, int at_most);
  double array_cost(const PlannedArray& array) const;
  void take_off(const PlannedArray& array);
  void land(std::int32_t unit);
  void push_retry(std::vector<std::pair<std::int32_t, std::int64_t>> members);

  std::vector<Item> items_;
  ArraySizing sizing_;
  int allowed_failures_;
  double array_memory_bytes_ = 0;
  Groups groups_;
  std::int64_t ready_count_[2] = {0, 0};  // by stage
  double ready_cost_[2] = {0, 0};
  double in_flight_cost_[2] = {0, 0};
  std::deque<PlannedArray> retries_;
  std::optional<Waiting> waiting_;
  std::uint64_t waited_ = 0;
};

}  // namespace tenfold
