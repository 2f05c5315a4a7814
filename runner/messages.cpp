#include "runner/messages.h"

#include <cstring>

#include <nlohmann/json.hpp>

#include "experiments/error.h"

namespace tenfold {
namespace {

struct MessageHeader {
  std::uint32_t length;
  std::uint16_t kind;
  std::uint16_t frame;
  std::uint64_t dispatch;
};
static_assert(sizeof(MessageHeader) == 16);

}  // namespace

std::string encode(const WorkerIntroduction& introduction) {
  return nlohmann::json{{"host", introduction.host},
                        {"machine", introduction.machine},
                        {"pid", introduction.pid},
                        {"device", introduction.device},
                        {"slot", introduction.slot},
                        {"log", introduction.log},
                        {"note", introduction.note}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

WorkerIntroduction decode_introduction(std::string_view text) {
  try {
    const auto json = nlohmann::json::parse(text);
    return {json.at("host"), json.at("machine"), json.at("pid"), json.at("device"),
            json.at("slot"), json.at("log"),     json.at("note")};
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorKind::communication, std::string("a worker introduced itself badly: ") + e.what());
  }
}

void ChunkWriter::add(const Message& message) {
  if (message.payload.size() > kMaxFrameBytes)
    throw Error(ErrorKind::communication, "a message of " + std::to_string(message.payload.size()) +
                                              " bytes is too large: make arrays smaller with resources.max_array");
  if (taken_ > 0 && taken_ == waiting_.size()) {
    waiting_.clear();
    taken_ = 0;
  }
  const MessageHeader header{static_cast<std::uint32_t>(message.payload.size()),
                             static_cast<std::uint16_t>(message.kind), static_cast<std::uint16_t>(message.frame),
                             message.dispatch};
  waiting_.append(reinterpret_cast<const char*>(&header), sizeof header);
  waiting_ += message.payload;
}

std::string ChunkWriter::take() {
  const std::size_t bytes = std::min(kChunkBytes, waiting_bytes());
  const ChunkHeader header{sequence_++, static_cast<std::uint32_t>(bytes), 0};
  std::string chunk(sizeof header + bytes, '\0');
  std::memcpy(chunk.data(), &header, sizeof header);
  std::memcpy(chunk.data() + sizeof header, waiting_.data() + taken_, bytes);
  taken_ += bytes;
  if (taken_ >= (std::size_t{1} << 20)) {  // moving the rest now and then, not for every chunk
    waiting_.erase(0, taken_);
    taken_ = 0;
  }
  return chunk;
}

void ChunkReader::add(std::string_view chunk) {
  ChunkHeader header{};
  if (chunk.size() < sizeof header) throw Error(ErrorKind::communication, "a message between ranks is cut short");
  std::memcpy(&header, chunk.data(), sizeof header);
  if (header.bytes != chunk.size() - sizeof header || header.bytes > kChunkBytes || header.sequence < sequence_)
    throw Error(ErrorKind::communication, "a message between ranks does not make sense");
  const std::string_view content = chunk.substr(sizeof header);
  if (header.sequence != sequence_) {
    early_.emplace(header.sequence, content);
    return;
  }
  ready_ += content;
  ++sequence_;
  for (auto it = early_.begin(); it != early_.end() && it->first == sequence_; it = early_.erase(it), ++sequence_)
    ready_ += it->second;
}

std::optional<Message> ChunkReader::next() {
  if (ready_.size() - consumed_ < sizeof(MessageHeader)) return std::nullopt;
  MessageHeader header{};
  std::memcpy(&header, ready_.data() + consumed_, sizeof header);
  if (header.length > kMaxFrameBytes) throw Error(ErrorKind::communication, "a message between ranks is too long");
  if (ready_.size() - consumed_ < sizeof header + header.length) return std::nullopt;
  Message message{static_cast<MessageKind>(header.kind), static_cast<FrameType>(header.frame), header.dispatch,
                  ready_.substr(consumed_ + sizeof header, header.length)};
  consumed_ += sizeof header + header.length;
  if (consumed_ == ready_.size() || consumed_ >= (std::size_t{1} << 20)) {
    ready_.erase(0, consumed_);
    consumed_ = 0;
  }
  return message;
}

}  // namespace tenfold
