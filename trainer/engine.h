#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "trainer/meeting.h"
#include "trainer/protocol.h"
#include "trainer/reporter.h"

namespace tenfold {

// Computes arrays on one device. Free of LibTorch's headers, so that main.cpp compiles in a second.
class Engine {
 public:
  // device: "cpu" or "cuda:N"; threads: of one operation on the CPU (1 keeps results the same bits whatever the slot).
  // Throws Error(device).
  Engine(const std::string& device, int threads);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws Error, or std::bad_alloc: the array as a whole failed, and the engine goes on with the next. `meeting`:
  // where the trainers of a job's group find each other.
  void run(const ArrayJob& job, Reporter& reporter, Meeting* meeting = nullptr);
  std::string description() const;    // "cpu", "NVIDIA H200"
  std::int64_t memory_bytes() const;  // of the device: bounds the arrays it is given

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tenfold
