#pragma once

#include "trainer/protocol_diagnose.h"

namespace tenfold {

// Runs one stream, or the held-out samples of a fold, through a saved model and measures what its inner loops did: the
// curves of figure 5, how far the fast weights moved, whether they were carried from call to call, and what the layers
// change at the output. Streams are read in pieces: memory does not grow with them, but for the recorded positions. Of
// a held-out fold, samples spread evenly over it are taken, up to about kDiagnosedPositions positions. Throws Error.
DiagnoseResult diagnose(const DiagnoseJob& job);

inline constexpr std::int64_t kDiagnosedPositions = 32'768;

// tenfold-trainer --diagnose: reads the job's file, diagnoses and writes the result aside and renames it. threads: of
// LibTorch on the CPU; 0: all cores.
void run_diagnose_job(const std::string& job_file, int threads);

}  // namespace tenfold
