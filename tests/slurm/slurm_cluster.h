#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "tests/faults/second_host.h"

// A real SLURM on this machine: munged, slurmctld and slurmd, started as root, with ports and a folder of their own.
// One node on loopback (partitions main, urgent); with a second host two (and partition pair, of both).
namespace tenfold {

// Empty when a SLURM can be started here; else what is missing.
std::string why_no_slurm();

class SlurmCluster {
 public:
  // In `folder`, which must exist and be short (sockets). Throws std::runtime_error with the daemons' last words.
  SlurmCluster(std::filesystem::path folder, const SecondHost* far);
  // Ends every process of it, jobs included.
  ~SlurmCluster();
  SlurmCluster(const SlurmCluster&) = delete;
  SlurmCluster& operator=(const SlurmCluster&) = delete;

  std::filesystem::path configuration() const { return folder_ / "slurm.conf"; }
  pid_t guard() const { return guard_; }

 private:
  void configure(const SecondHost* far) const;
  void wait_until_idle();

  std::filesystem::path folder_;
  std::string host_;
  pid_t guard_ = -1;  // parent of all daemons; it ends them all when we are gone, however that happens
  int alive_ = -1;    // the end of a pipe that we hold
};

}  // namespace tenfold
