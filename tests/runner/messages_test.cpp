#include "runner/messages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "experiments/error.h"

namespace tenfold {
namespace {

Message message(std::size_t bytes, std::uint64_t dispatch) {
  std::string payload(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) payload[i] = static_cast<char>(i * 31 + dispatch);
  return {MessageKind::frame, FrameType::rows, dispatch, std::move(payload)};
}

TEST(Chunks, CarryMessagesOfAnySizeInAnyOrderOfArrival) {
  std::mt19937 random(7);
  ChunkWriter writer;
  std::vector<std::size_t> sizes{0, 1, kChunkBytes - 16, kChunkBytes, 3 * kChunkBytes + 5, 64, 2'500'000, 0};
  for (std::size_t i = 0; i < sizes.size(); ++i) writer.add(message(sizes[i], i));
  std::vector<std::string> chunks;
  while (!writer.empty()) chunks.push_back(writer.take());
  for (const std::string& chunk : chunks) EXPECT_LE(chunk.size(), kChunkBufferBytes);
  std::shuffle(chunks.begin(), chunks.end(), random);

  ChunkReader reader;
  std::size_t next = 0;
  for (const std::string& chunk : chunks) {
    reader.add(chunk);
    while (const auto got = reader.next()) {
      ASSERT_LT(next, sizes.size());
      EXPECT_EQ(got->dispatch, next);
      EXPECT_EQ(got->kind, MessageKind::frame);
      EXPECT_EQ(got->frame, FrameType::rows);
      EXPECT_EQ(got->payload, message(sizes[next], next).payload);
      ++next;
    }
  }
  EXPECT_EQ(next, sizes.size());
}

TEST(Chunks, SmallMessagesShareOne) {
  ChunkWriter writer;
  for (std::uint64_t i = 0; i < 100; ++i) writer.add(message(50, i));
  writer.take();
  EXPECT_TRUE(writer.empty());
}

TEST(Chunks, WriterAndReaderStayUsableOverManyRounds) {
  ChunkWriter writer;
  ChunkReader reader;
  for (std::uint64_t round = 0; round < 200; ++round) {
    writer.add(message(30'000, round));
    while (!writer.empty()) reader.add(writer.take());
    const auto got = reader.next();
    ASSERT_TRUE(got);
    EXPECT_EQ(got->dispatch, round);
    EXPECT_FALSE(reader.next());
  }
}

TEST(Chunks, NonsenseIsRefusedBeforeAnythingIsAllocated) {
  ChunkReader reader;
  EXPECT_THROW(reader.add("short"), Error);
  ChunkWriter writer;
  writer.add(message(10, 0));
  std::string chunk = writer.take();
  EXPECT_THROW(reader.add(chunk.substr(0, chunk.size() - 1)), Error);
  chunk[sizeof(ChunkHeader)] = chunk[sizeof(ChunkHeader) + 1] = chunk[sizeof(ChunkHeader) + 2] =
      chunk[sizeof(ChunkHeader) + 3] = '\xff';  // a message of 4 GiB
  reader.add(chunk);
  EXPECT_THROW(reader.next(), Error);
  EXPECT_THROW(reader.add(chunk), Error) << "a chunk that was there before";
}

TEST(Introduction, SurvivesItsJson) {
  const WorkerIntroduction sent{"host", "machine", 4711, "cuda:1", 3, "/x/3.log", "they share"};
  const WorkerIntroduction got = decode_introduction(encode(sent));
  EXPECT_EQ(got.host, sent.host);
  EXPECT_EQ(got.machine, sent.machine);
  EXPECT_EQ(got.pid, sent.pid);
  EXPECT_EQ(got.device, sent.device);
  EXPECT_EQ(got.slot, sent.slot);
  EXPECT_EQ(got.log, sent.log);
  EXPECT_EQ(got.note, sent.note);
  EXPECT_THROW(decode_introduction("{}"), Error);
}

}  // namespace
}  // namespace tenfold
