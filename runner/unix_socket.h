#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "experiments/unique_fd.h"

namespace tenfold {

// A stream socket bound to `path`, listening, non-blocking, closed on exec. Throws Error(communication).
UniqueFd listen_unix(const std::filesystem::path& path);
// Connected to `path`, non-blocking, closed on exec. Throws Error(communication).
UniqueFd connect_unix(const std::filesystem::path& path);
// The next connection, or nothing when none waits.
std::optional<UniqueFd> accept_unix(const UniqueFd& listener);

// Lines of text in both directions over a connected non-blocking stream socket. Never blocks: what the socket does
// not take at once waits in memory for the next flush().
class LineChannel {
 public:
  explicit LineChannel(UniqueFd fd) : fd_(std::move(fd)) {}
  int fd() const { return fd_.get(); }
  void send(const std::string& line);  // without line feeds
  void flush();
  bool flushed() const { return outgoing_.empty(); }
  void receive();  // reads what is there
  std::optional<std::string> next();
  bool closed() const { return closed_; }  // the other side is gone; lines received before may still wait

 private:
  UniqueFd fd_;
  std::string incoming_, outgoing_;
  bool closed_ = false;  // to reading; what was sent to us before is read first
  bool broken_ = false;  // to writing
};

}  // namespace tenfold
