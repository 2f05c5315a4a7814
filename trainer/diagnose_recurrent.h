#pragma once

#include "trainer/diagnose_model.h"

namespace tenfold {

// ttt_rnn: over one sequence of features, or over held-out samples in the batches in which they are evaluated. Its
// layers cannot be bypassed: what is compared is the model with an inner rate of 0.
DiagnoseResult diagnose_recurrent(const DiagnoseJob& job, const DiagnosedSubject& subject, const at::Device& device);

// About kDiagnosedPositions positions of samples with these numbers of steps, spread evenly; at least one sample.
std::vector<std::int64_t> spread_samples(const std::vector<std::int64_t>& steps);

}  // namespace tenfold
