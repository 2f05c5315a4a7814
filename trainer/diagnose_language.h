#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/diagnose_model.h"

namespace tenfold {

// The tokens of one stream. The first `positions` of them are read; each has the next as its target, where there is
// one.
struct TokenStream {
  std::vector<std::int32_t> tokens;
  std::int64_t positions = 0;
};

// The job's input, or held-out samples. Throws Error(data).
std::vector<TokenStream> token_streams(const DiagnoseJob& job, const DiagnosedSubject& subject);

// ttt_lm and transformer_lm.
DiagnoseResult diagnose_language(const DiagnoseJob& job, const DiagnosedSubject& subject, const at::Device& device);

}  // namespace tenfold
