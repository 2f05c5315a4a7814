#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace tenfold {

struct DoctorOptions {
  std::filesystem::path db = "tenfold.db";
  std::string format = "text";  // text json
  bool measure_gpus = false;    // the bandwidth of NCCL, too
};

enum class Health { ok, advice, missing };

// One thing that tenfold needs or can use.
struct Finding {
  std::string subject;  // "MPI"
  Health health = Health::ok;
  std::string detail;  // what was found
  std::string advice;  // what to do; empty when ok
};

// Each check runs by itself: one that fails hides no other.
std::vector<Finding> examine_machine(const DoctorOptions& options);

// `tenfold doctor`: 0 when nothing is missing, else 1.
int doctor_command(const DoctorOptions& options, std::ostream& out);

// What mpirun starts twice for the MPI check (hidden command `mpi-check`): 0 when both ranks have met.
int mpi_check_rank(int argc, char** argv);

}  // namespace tenfold
