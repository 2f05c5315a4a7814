// Run by mpirun (messages_port_ranks): real ranks exchange messages of many sizes through MessagePort; rank 0 holds
// its receives for a while and loses nothing. Exit code 0 when every byte arrived in order.
#include "runner/messages_port.h"

#include <chrono>
#include <cstdio>
#include <random>
#include <thread>

#include "runner/rank_mpi.h"

namespace tenfold {
namespace {

constexpr int kMessages = 300;

std::size_t size_of(int rank, int number) {
  std::mt19937 random(static_cast<unsigned>(rank * 1000 + number));
  return number % 10 == 0 ? 200'000 + random() % 3'000'000 : random() % 5'000;
}

char byte_of(int rank, int number, std::size_t at) {
  return static_cast<char>(rank * 7 + number * 13 + static_cast<int>(at));
}

Message make(int rank, int number) {
  std::string payload(size_of(rank, number), '\0');
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = byte_of(rank, number, i);
  return {MessageKind::frame, FrameType::rows, static_cast<std::uint64_t>(number), std::move(payload)};
}

bool is_right(const Message& message, int rank, int number) {
  return message.dispatch == static_cast<std::uint64_t>(number) && message.payload == make(rank, number).payload;
}

// Workers send to rank 0, which sends each message back.
int exchange() {
  const MpiSession mpi;
  MessagePort port(MPI_COMM_WORLD, 8);
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  std::vector<int> next(static_cast<std::size_t>(mpi.size()), 0);
  int left = mpi.rank() == 0 ? kMessages * (mpi.size() - 1) : kMessages;
  int sent = 0;
  while (left > 0 || !port.all_sent()) {
    if (elapsed() > 60) {
      std::fprintf(stderr, "rank %d: %d messages never came\n", mpi.rank(), left);
      return 1;
    }
    if (mpi.rank() == 0) port.hold_receives(elapsed() > 0.2 && elapsed() < 0.6);
    while (mpi.rank() != 0 && sent < kMessages && port.unsent_bytes(0) < (1u << 22))
      port.send(0, make(mpi.rank(), sent++));
    const bool moved = port.progress();
    while (auto received = port.next()) {
      const int author = mpi.rank() == 0 ? received->rank : mpi.rank();
      int& number = next[static_cast<std::size_t>(received->rank)];
      if (!is_right(received->message, author, number)) {
        std::fprintf(stderr, "rank %d: message %d from %d is not what was sent\n", mpi.rank(), number, received->rank);
        return 1;
      }
      ++number;
      --left;
      if (mpi.rank() == 0) port.send(received->rank, received->message);
    }
    if (!moved) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return 0;
}

}  // namespace
}  // namespace tenfold

int main() { return tenfold::exchange(); }
