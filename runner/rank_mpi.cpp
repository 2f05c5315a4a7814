#include "runner/rank_mpi.h"

#include <mpi.h>

#include <cstdlib>

#include "experiments/error.h"
#include "runner/host_agent.h"

namespace tenfold {

MpiSession::MpiSession() {
  // A folder of this host, which mpirun, on another, cannot name.
  if (const char* folder = std::getenv(kHostFolderVariable))
    ::setenv("OMPI_MCA_btl_vader_backing_directory", folder, 0);
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
    throw Error(ErrorKind::communication, "MPI does not start: see tenfold doctor");
  if (provided < MPI_THREAD_FUNNELED)
    throw Error(ErrorKind::communication, "this MPI does not allow a second thread in a rank: use Open MPI 4 or newer");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
}

MpiSession::~MpiSession() {
  if (!abandoned_) MPI_Finalize();
}

int MpiSession::worker_index_on_host() const {
  MPI_Comm host = MPI_COMM_NULL;
  if (MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host) != MPI_SUCCESS)
    throw Error(ErrorKind::communication, "MPI cannot tell which ranks share a host");
  int rank_here = 0, lowest = rank_;
  MPI_Comm_rank(host, &rank_here);
  MPI_Bcast(&lowest, 1, MPI_INT, 0, host);
  MPI_Comm_free(&host);
  return lowest == 0 ? rank_here - 1 : rank_here;
}

}  // namespace tenfold
