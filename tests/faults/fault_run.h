#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tests/faults/oracle.h"

namespace tenfold {

// Seconds of work for the real trainer, with checkpoints every few steps: tables and a multilayer perceptron; sequences
// and a recurrent net whose layers learn while they read; and work that a fake trainer passes through more slowly.
extern const char* const kTables;
extern const char* const kSequences;
extern const char* const kFake;

// One experiment in one folder, run undisturbed for what it should give, and disturbed by the test.
class FaultRun : public testing::Test {
 protected:
  void use(const std::string& experiment) {
    experiment_ = experiment;
    work_.write("x.yaml", experiment);
  }
  // kFake, and what else the file is to say, by the fake trainer: seconds, and its rows show every wrong resume.
  void use_fake(const std::string& more = "");
  std::vector<std::string> run(const std::string& db, std::vector<std::string> more = {}) const;
  // Rows of an undisturbed run of the experiment in use, and how long it took; computed once.
  const std::string& expected() { return calm().rows; }
  double calm_s() { return calm().s; }
  // A run to its end; limited, but not by how busy the machine is with other things.
  Finished complete(const std::string& db, std::vector<std::string> more = {}) const;
  // Ends in `db` with everything done, whatever was done to it before.
  void finish(const std::string& db, std::vector<std::string> more = {});

  static void sleep_s(double seconds);
  double random_s(double from, double to) { return std::uniform_real_distribution<double>(from, to)(random_); }

  Workspace work_;
  std::mt19937 random_{20261122};

 private:
  struct Calm {
    std::string rows;
    double s = 0;
  };
  const Calm& calm();

  std::string experiment_;
};

}  // namespace tenfold
