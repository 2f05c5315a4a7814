#include "runner/coordinator_front.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

namespace tenfold {
namespace {

constexpr std::array<const char*, 5> kLineKinds = {"together", "progress", "note", "outcome", "drain"};
constexpr ErrorKind kErrorKinds[] = {ErrorKind::config,        ErrorKind::data,    ErrorKind::device,
                                     ErrorKind::communication, ErrorKind::storage, ErrorKind::internal};

std::string dump(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// USR1 is none: some MPIs and NCCL use it among themselves.
std::string first_that_asks_to_drain(SignalReceiver& signals) {
  std::string first;
  while (const auto signal = signals.next())
    if (first.empty() && *signal != SIGUSR1) first = signal_name(*signal);
  return first;
}

class SocketFront final : public FrontLink {
 public:
  SocketFront(UniqueFd fd, SignalReceiver& signals) : channel_(std::move(fd)), signals_(signals) {}

  int fd() const override { return channel_.fd(); }
  void together() override { send(FrontLine::Kind::together, ""); }
  void progress(const ProgressSnapshot& snapshot) override {
    // Progress is only worth sending while the front reads it.
    if (channel_.flushed()) send(FrontLine::Kind::progress, encode(snapshot));
  }
  void note(const std::string& line) override { send(FrontLine::Kind::note, line); }

  void outcome(const RunOutcome& outcome) override {
    send(FrontLine::Kind::outcome, encode(outcome));
    for (int i = 0; i < 100 && !channel_.flushed() && !channel_.closed(); ++i) {
      pollfd socket{channel_.fd(), POLLOUT, 0};
      ::poll(&socket, 1, 20);
      channel_.flush();
    }
  }

  std::string drain_requested() override {
    channel_.receive();
    channel_.flush();
    while (const auto line = channel_.next())
      if (const FrontLine said = decode_front_line(*line); said.kind == FrontLine::Kind::drain && drain_.empty())
        drain_ = said.content;
    const std::string here = first_that_asks_to_drain(signals_);  // taken in any case
    if (drain_.empty()) drain_ = here;
    return drain_;
  }
  bool gone() override { return channel_.closed(); }

 private:
  void send(FrontLine::Kind kind, std::string content) { channel_.send(encode(FrontLine{kind, std::move(content)})); }

  LineChannel channel_;
  SignalReceiver& signals_;
  std::string drain_;
};

class TerminalFront final : public FrontLink {
 public:
  TerminalFront(SignalReceiver& signals, bool quiet) : signals_(signals), view_(STDERR_FILENO, quiet) {}

  int fd() const override { return signals_.fd(); }
  void together() override {}
  void progress(const ProgressSnapshot& snapshot) override { view_.show(snapshot); }
  void note(const std::string& line) override { view_.note(line); }
  void outcome(const RunOutcome&) override {}
  std::string drain_requested() override {
    const std::string asked = first_that_asks_to_drain(signals_);
    if (drain_.empty()) drain_ = asked;
    return drain_;
  }
  bool gone() override { return false; }

 private:
  SignalReceiver& signals_;
  ProgressView view_;
  std::string drain_;
};

}  // namespace

std::string encode(const RunOutcome& outcome) {
  nlohmann::json json{
      {"trials", outcome.trials},   {"trials_done", outcome.trials_done},   {"trials_failed", outcome.trials_failed},
      {"drained", outcome.drained}, {"lost_workers", outcome.lost_workers}, {"elapsed_s", outcome.elapsed_s},
      {"message", outcome.message}};
  if (outcome.error) json["error"] = static_cast<int>(*outcome.error);
  return dump(json);
}

RunOutcome decode_outcome_of_run(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    RunOutcome outcome;
    outcome.trials = json.at("trials");
    outcome.trials_done = json.at("trials_done");
    outcome.trials_failed = json.at("trials_failed");
    outcome.drained = json.at("drained");
    outcome.lost_workers = json.at("lost_workers");
    outcome.elapsed_s = json.at("elapsed_s");
    outcome.message = json.at("message");
    if (json.contains("error"))
      for (const ErrorKind kind : kErrorKinds)
        if (static_cast<int>(kind) == json["error"]) outcome.error = kind;
    return outcome;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::communication, std::string("the coordinator's outcome cannot be read: ") + error.what());
  }
}

std::string encode(const FrontLine& line) {
  return dump({{"kind", kLineKinds[static_cast<std::size_t>(line.kind)]}, {"content", line.content}});
}

FrontLine decode_front_line(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    const std::string kind = json.at("kind");
    for (std::size_t i = 0; i < kLineKinds.size(); ++i)
      if (kind == kLineKinds[i]) return {static_cast<FrontLine::Kind>(i), json.at("content")};
    throw Error(ErrorKind::communication, "a line of unknown kind '" + kind + "' between front and coordinator");
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::communication,
                std::string("a line between front and coordinator cannot be read: ") + error.what());
  }
}

std::unique_ptr<FrontLink> socket_front(const std::filesystem::path& socket, SignalReceiver& signals) {
  return std::make_unique<SocketFront>(connect_unix(socket), signals);
}

std::unique_ptr<FrontLink> terminal_front(SignalReceiver& signals, bool quiet) {
  return std::make_unique<TerminalFront>(signals, quiet);
}

}  // namespace tenfold
