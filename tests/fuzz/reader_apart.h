#pragma once

#include <sys/types.h>

#include <functional>

#include "experiments/unique_fd.h"
#include "tests/fuzz/targets.h"

namespace tenfold::fuzz {

// Reads one input after another in a process of its own: the product does so for libraries that break over some files,
// with a process for each, which here would take most of the time. What libFuzzer counts there it sees here.
class ReaderApart {
 public:
  // read: as a target does it, of what the parent has put where both find it.
  explicit ReaderApart(std::function<bool()> read) : read_(std::move(read)) {}
  ~ReaderApart() { end(); }
  ReaderApart(const ReaderApart&) = delete;
  ReaderApart& operator=(const ReaderApart&) = delete;

  enum class Result { read, refused, broken };
  // Throws std::logic_error with the words of an exception that left `read`. broken: the process ended over it, or
  // computed for 0.3 s.
  Result read();
  // After broken: what the product makes of it; false of one that took too long, for which the product would wait.
  // `input` is written to the folder $TENFOLD_FUZZ_BROKEN, if there is one, and is not one that libFuzzer goes on from.
  bool told(Input input, const std::function<bool()>& product);

 private:
  void begin();
  int end();  // how it ended
  [[noreturn]] void serve(int socket) const;
  void keep(Input input);

  std::function<bool()> read_;
  UniqueFd socket_;
  pid_t pid_ = -1;
  int served_ = 0, broken_ = 0;
  bool circling_ = false;
};

}  // namespace tenfold::fuzz
