#include <algorithm>
#include <stdexcept>
#include <string>

#include "runner/messages.h"
#include "tests/fuzz/input_file.h"
#include "trainer/protocol.h"
#include "trainer/protocol_diagnose.h"

// What processes say to each other: read as if a stranger had said it.
namespace tenfold::fuzz {
namespace {

constexpr std::initializer_list<ErrorKind> kKinds = {ErrorKind::communication};

template <class Value>
void require_same(const std::string& once, const Value& decoded) {
  if (encode(decoded) != once) throw std::logic_error("what was read is written as something else: " + once);
}

void decode(const Frame& frame) {
  switch (frame.type) {
    case FrameType::job: {
      const std::string once = encode(decode_job(frame.payload));
      require_same(once, decode_job(once));
      break;
    }
    case FrameType::checkpoint: {
      const std::string once = encode(decode_checkpoint(frame.payload));
      require_same(once, decode_checkpoint(once));
      break;
    }
    case FrameType::member_done: {
      const std::string once = encode(decode_outcome(frame.payload));
      require_same(once, decode_outcome(once));
      break;
    }
    case FrameType::heartbeat:
      decode_progress(frame.payload);
      break;
    case FrameType::ready:
      decode_ready(frame.payload);
      break;
    case FrameType::failure:
      decode_failure(frame.payload);
      break;
    case FrameType::join:
    case FrameType::meeting:
      decode_group_address(frame.payload);
      break;
    case FrameType::rows:
      decode_rows(frame.payload);
      break;
    default:
      break;
  }
}

}  // namespace

// Fed in pieces whose sizes the bytes themselves tell.
bool frames(Input input) {
  const std::string_view bytes = text_of(input);
  return read_or_told(
      "",
      [&] {
        FrameParser parser;
        std::size_t at = 0;
        while (at < bytes.size()) {
          const std::size_t piece = std::min<std::size_t>(bytes.size() - at, 1 + static_cast<unsigned char>(bytes[at]));
          parser.feed(std::span(bytes).subspan(at, piece));
          at += piece;
          while (const auto frame = parser.next()) decode(*frame);
        }
        if (parser.pending_bytes() > bytes.size()) throw std::logic_error("more is pending than was fed");
      },
      kKinds);
}

// Chunks, each after two bytes that tell its length.
bool messages(Input input) {
  const std::string_view bytes = text_of(input);
  return read_or_told(
      "",
      [&] {
        ChunkReader reader;
        std::size_t at = 0;
        while (at + 2 <= bytes.size()) {
          const std::size_t length =
              static_cast<unsigned char>(bytes[at]) + std::size_t{256} * static_cast<unsigned char>(bytes[at + 1]);
          at += 2;
          const std::string_view chunk = bytes.substr(at, length);
          at += chunk.size();
          reader.add(chunk);
          while (const auto message = reader.next())
            if (message->kind == MessageKind::hello) decode_introduction(message->payload);
        }
      },
      kKinds);
}

bool diagnosis(Input input) {
  const std::string_view bytes = text_of(input);
  const bool result = read_or_told(
      "",
      [&] {
        const std::string once = encode(decode_diagnose_result(bytes));
        require_same(once, decode_diagnose_result(once));
      },
      kKinds);
  const bool job = read_or_told(
      "",
      [&] {
        const DiagnoseJob read = decode_diagnose_job(bytes);
        if (decode_diagnose_job(encode(read)) != read) throw std::logic_error("a job that its JSON does not give back");
      },
      kKinds);
  return result || job;
}

}  // namespace tenfold::fuzz
