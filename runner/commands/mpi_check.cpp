#include <mpi.h>

#include <cstdio>

#include "runner/doctor.h"

namespace tenfold {
namespace {

class MpiSession {
 public:
  MpiSession(int* argc, char*** argv) { MPI_Init(argc, argv); }
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  ~MpiSession() { MPI_Finalize(); }
};

}  // namespace

int mpi_check_rank(int argc, char** argv) {
  const MpiSession session(&argc, &argv);
  int rank = 0;
  int met = 0;
  const int one = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Allreduce(&one, &met, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (rank == 0) std::printf("%d ranks met\n", met);
  return met == 2 ? 0 : 1;
}

}  // namespace tenfold
