#pragma once

#include <mpi.h>

#include <chrono>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "runner/messages.h"

namespace tenfold {

struct Received {
  int rank = 0;
  Message message;
};

// Messages between ranks without ever blocking: a fixed pool of receives is posted for any source, sends are tested
// until they complete. MPI reports no death; who may be dead is known by his silence, and drop_peer() forgets him.
class MessagePort {
 public:
  MessagePort(MPI_Comm communicator, int receives);
  ~MessagePort();
  MessagePort(const MessagePort&) = delete;
  MessagePort& operator=(const MessagePort&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  void send(int rank, const Message& message);  // queued; moved by progress()
  void send_to_workers(MessageKind kind);       // of rank 0: to all others, without content
  bool progress();                              // true when anything moved
  std::optional<Received> next();

  // Back-pressure: while held, completed receives are not posted again, so that senders fill up and stop.
  void hold_receives(bool hold) { hold_ = hold; }
  std::size_t unsent_bytes(int rank) const;
  // Seconds since the oldest send to `rank` has been under way; 0 when none is.
  double stuck_s(int rank) const;
  void forgive(std::chrono::steady_clock::duration silence);  // as if what is on its way had been sent so much later
  bool all_sent() const;
  void drop_peer(int rank);  // nothing is sent to it any more, nothing from it is delivered

 private:
  struct Peer {
    ChunkWriter writer;
    ChunkReader reader;
    int in_flight = 0;
    bool dropped = false;
  };
  struct Send {
    int rank;
    std::string chunk;
    std::chrono::steady_clock::time_point since;
  };

  bool progress_receives();
  bool progress_sends();
  void post_receive(std::size_t slot);

  MPI_Comm communicator_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 0;
  bool hold_ = false;
  std::vector<Peer> peers_;
  std::vector<MPI_Request> receive_requests_;
  std::vector<std::unique_ptr<char[]>> receive_buffers_;
  std::vector<std::size_t> unposted_;
  std::vector<MPI_Request> send_requests_;
  std::vector<std::unique_ptr<Send>> sends_;
  std::vector<int> indices_;
  std::vector<MPI_Status> statuses_;
  std::deque<int> arrivals_;  // ranks with messages to deliver
};

}  // namespace tenfold
