#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "trainer/protocol.h"

// What coordinator and workers say to each other, and how it is cut into MPI messages of bounded size. No MPI here:
// messages_port.h moves the chunks.
namespace tenfold {

enum class MessageKind : std::uint16_t {
  // worker -> coordinator
  hello = 1,             // JSON WorkerIntroduction, once
  heartbeat = 2,         // empty, in both directions
  started = 3,           // JSON {pid}: the trainer has the job of this dispatch
  dropped = 4,           // the job of this dispatch was not started and will not be (drain)
  frame = 5,             // a trainer's frame, unchanged
  trainer_lost = 6,      // JSON {reason, dispatch}: it died, hung or gave up the array; another one is started
  trainer_unusable = 7,  // JSON {reason}: it cannot be started; the worker has nothing to offer
  abandoned = 8,         // the job of this dispatch was not under way any more, and the trainer is ready
  // coordinator -> worker
  job = 16,      // JSON ArrayJob
  drain = 17,    // pass it to the trainer; drop what has not started
  finish = 18,   // end
  join = 19,     // JSON GroupAddress for the trainer that computes this dispatch
  abandon = 20,  // the group of this dispatch has lost a member: another trainer, and no word of this one
};

struct Message {
  MessageKind kind{};
  FrameType frame{};           // frame
  std::uint64_t dispatch = 0;  // the array's attempt number, as in FrameHeader::attempt
  std::string payload;
};

struct WorkerIntroduction {
  std::string host;
  std::string machine;   // where `pid` means something (this_machine())
  std::int64_t pid = 0;  // of the worker
  std::string device;    // of its trainer
  std::int32_t slot = 0;
  std::string log;   // its trainer's output
  std::string note;  // for the user, of its host
};
std::string encode(const WorkerIntroduction& introduction);
WorkerIntroduction decode_introduction(std::string_view json);

// Of content: a whole rows frame with its header; small enough for a pool of receives.
inline constexpr std::size_t kChunkBytes = kMaxRowBlockBytes + 256;

struct ChunkHeader {
  std::uint64_t sequence;  // per sender and receiver, from 0
  std::uint32_t bytes;
  std::uint32_t reserved;
};
inline constexpr std::size_t kChunkBufferBytes = sizeof(ChunkHeader) + kChunkBytes;

// Messages in, chunks out: several small ones share a chunk, large ones span many.
class ChunkWriter {
 public:
  void add(const Message& message);
  bool empty() const { return taken_ == waiting_.size(); }
  std::size_t waiting_bytes() const { return waiting_.size() - taken_; }
  std::string take();  // the next chunk, header included

 private:
  std::string waiting_;
  std::size_t taken_ = 0;
  std::uint64_t sequence_ = 0;
};

// Chunks in, in any order, messages out in the order they were added. MPI matches messages in order, but a small one
// may be complete before a large one sent earlier. Throws Error(communication) on nonsense, before allocating for it.
class ChunkReader {
 public:
  void add(std::string_view chunk);  // header included
  std::optional<Message> next();

 private:
  std::map<std::uint64_t, std::string> early_;
  std::uint64_t sequence_ = 0;
  std::string ready_;
  std::size_t consumed_ = 0;
};

}  // namespace tenfold
