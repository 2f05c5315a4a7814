#pragma once

#include <cstdint>

namespace tenfold {

// What one sample of a dataset is.
enum class SampleKind {
  fixed,     // one array of a shape that all share
  sequence,  // (steps, features), each with a length of its own
  tokens,    // whole numbers below the vocabulary's size; predicting the next one is the task
};

// What is to be predicted.
enum class LabelKind {
  sample,      // one class of the sample
  step,        // one class of each time step; -1 where there is none
  next_token,  // of a sample of L + 1 tokens, each of the last L from those before it
};

const char* to_string(SampleKind kind);  // fixed sequence tokens
const char* to_string(LabelKind kind);   // sample step next_token

}  // namespace tenfold
