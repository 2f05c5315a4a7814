#include "runner/messages_port.h"

#include <algorithm>
#include <cstdlib>

#include "experiments/error.h"

#if defined(__SANITIZE_ADDRESS__)
// Asked by LeakSanitizer when a process ends. Open MPI keeps what its components allocated and has unloaded them by
// then, so that no suppression can name them: in a rank leaks are not looked for.
extern "C" int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return std::getenv("OMPI_COMM_WORLD_RANK") != nullptr ? 1 : 0; }
#endif

namespace tenfold {
namespace {

constexpr int kTag = 1;
constexpr int kSendsInFlight = 16;  // per peer

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(ErrorKind::communication,
              std::string("MPI cannot ") + what + ": " + std::string(text, static_cast<std::size_t>(length)));
}

}  // namespace

MessagePort::MessagePort(MPI_Comm communicator, int receives) {
  check(MPI_Comm_dup(communicator, &communicator_), "duplicate its communicator");
  MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(communicator_, &rank_);
  MPI_Comm_size(communicator_, &size_);
  peers_ = std::vector<Peer>(static_cast<std::size_t>(size_));
  receive_requests_.assign(static_cast<std::size_t>(receives), MPI_REQUEST_NULL);
  for (int i = 0; i < receives; ++i) {
    receive_buffers_.push_back(std::make_unique<char[]>(kChunkBufferBytes));
    post_receive(static_cast<std::size_t>(i));
  }
}

MessagePort::~MessagePort() {
  for (MPI_Request& request : receive_requests_) {
    if (request == MPI_REQUEST_NULL) continue;
    MPI_Cancel(&request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  }
  // A send to a dead rank never completes, and MPI may still read its buffer: it stays with MPI.
  for (std::size_t i = 0; i < sends_.size(); ++i) {
    if (send_requests_[i] == MPI_REQUEST_NULL) continue;
    MPI_Request_free(&send_requests_[i]);
    static_cast<void>(sends_[i].release());
  }
}

void MessagePort::send_to_workers(MessageKind kind) {
  for (int rank = 1; rank < size(); ++rank) send(rank, {kind, {}, 0, ""});
}

void MessagePort::send(int rank, const Message& message) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  if (!peer.dropped) peer.writer.add(message);
}

bool MessagePort::progress() {
  const bool sent = progress_sends();
  const bool received = progress_receives();
  return sent || received;
}

void MessagePort::post_receive(std::size_t slot) {
  check(MPI_Irecv(receive_buffers_[slot].get(), static_cast<int>(kChunkBufferBytes), MPI_BYTE, MPI_ANY_SOURCE, kTag,
                  communicator_, &receive_requests_[slot]),
        "receive");
}

bool MessagePort::progress_receives() {
  if (!hold_) {
    for (const std::size_t slot : unposted_) post_receive(slot);
    unposted_.clear();
  }
  indices_.resize(receive_requests_.size());
  statuses_.resize(receive_requests_.size());
  int completed = 0;
  check(MPI_Testsome(static_cast<int>(receive_requests_.size()), receive_requests_.data(), &completed, indices_.data(),
                     statuses_.data()),
        "receive");
  if (completed == MPI_UNDEFINED || completed == 0) return false;
  for (int i = 0; i < completed; ++i) {
    const std::size_t slot = static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)]);
    const MPI_Status& status = statuses_[static_cast<std::size_t>(i)];
    int bytes = 0;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    Peer& peer = peers_[static_cast<std::size_t>(status.MPI_SOURCE)];
    if (!peer.dropped) {
      peer.reader.add({receive_buffers_[slot].get(), static_cast<std::size_t>(bytes)});
      if (std::find(arrivals_.begin(), arrivals_.end(), status.MPI_SOURCE) == arrivals_.end())
        arrivals_.push_back(status.MPI_SOURCE);
    }
    if (hold_)
      unposted_.push_back(slot);
    else
      post_receive(slot);
  }
  return true;
}

bool MessagePort::progress_sends() {
  bool moved = false;
  if (!sends_.empty()) {
    indices_.resize(sends_.size());
    int completed = 0;
    check(MPI_Testsome(static_cast<int>(sends_.size()), send_requests_.data(), &completed, indices_.data(),
                       MPI_STATUSES_IGNORE),
          "send");
    if (completed != MPI_UNDEFINED && completed > 0) {
      moved = true;
      for (int i = 0; i < completed; ++i) {
        auto& send = sends_[static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)])];
        --peers_[static_cast<std::size_t>(send->rank)].in_flight;
        send.reset();
      }
      std::erase_if(sends_, [](const auto& send) { return !send; });
      std::erase(send_requests_, MPI_REQUEST_NULL);
    }
  }
  for (int rank = 0; rank < size_; ++rank) {
    Peer& peer = peers_[static_cast<std::size_t>(rank)];
    while (!peer.dropped && !peer.writer.empty() && peer.in_flight < kSendsInFlight) {
      auto send = std::make_unique<Send>(Send{rank, peer.writer.take(), std::chrono::steady_clock::now()});
      MPI_Request request = MPI_REQUEST_NULL;
      check(MPI_Isend(send->chunk.data(), static_cast<int>(send->chunk.size()), MPI_BYTE, rank, kTag, communicator_,
                      &request),
            "send");
      sends_.push_back(std::move(send));
      send_requests_.push_back(request);
      ++peer.in_flight;
      moved = true;
    }
  }
  return moved;
}

std::optional<Received> MessagePort::next() {
  while (!arrivals_.empty()) {
    const int rank = arrivals_.front();
    Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (!peer.dropped)
      if (auto message = peer.reader.next()) return Received{rank, std::move(*message)};
    arrivals_.pop_front();
  }
  return std::nullopt;
}

std::size_t MessagePort::unsent_bytes(int rank) const {
  const Peer& peer = peers_[static_cast<std::size_t>(rank)];
  return peer.writer.waiting_bytes() + static_cast<std::size_t>(peer.in_flight) * kChunkBytes;
}

double MessagePort::stuck_s(int rank) const {
  double longest = 0;
  const auto now = std::chrono::steady_clock::now();
  for (const auto& send : sends_)
    if (send->rank == rank) longest = std::max(longest, std::chrono::duration<double>(now - send->since).count());
  return longest;
}

void MessagePort::forgive(std::chrono::steady_clock::duration silence) {
  for (const auto& send : sends_) send->since += silence;
}

bool MessagePort::all_sent() const {
  for (const Peer& peer : peers_)
    if (!peer.dropped && (!peer.writer.empty() || peer.in_flight > 0)) return false;
  return true;
}

void MessagePort::drop_peer(int rank) {
  Peer& peer = peers_[static_cast<std::size_t>(rank)];
  peer.dropped = true;
  peer.writer = ChunkWriter();
  peer.reader = ChunkReader();
}

}  // namespace tenfold
