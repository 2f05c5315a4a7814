#pragma once

namespace tenfold {

// MPI from init to finalize. abandon() leaves finalize out: it waits for all ranks, also for those that died.
class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  int rank() const { return rank_; }
  int size() const { return size_; }
  // This rank's number among the workers (ranks from 1) of its host, from 0. Collective.
  int worker_index_on_host() const;
  void abandon() { abandoned_ = true; }

 private:
  int rank_ = 0, size_ = 1;
  bool abandoned_ = false;
};

}  // namespace tenfold
