#include "trainer/protocol.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "experiments/error.h"
#include "trainer/protocol_json.h"

namespace tenfold {
namespace {

using namespace protocol_json;

constexpr std::size_t kMaxNoticeBytes = std::size_t{1} << 20;
constexpr std::size_t kMaxReasonBytes = 16 * 1024;

std::size_t payload_limit(std::uint16_t type) {
  switch (static_cast<FrameType>(type)) {
    case FrameType::job:
    case FrameType::checkpoint:
      return kMaxFrameBytes;
    case FrameType::rows:
      return kMaxRowBlockBytes;
    case FrameType::drain:
    case FrameType::shutdown:
    case FrameType::alive:
    case FrameType::ready:
    case FrameType::heartbeat:
    case FrameType::member_done:
    case FrameType::job_done:
    case FrameType::failure:
    case FrameType::join:
    case FrameType::meeting:
      return kMaxNoticeBytes;
  }
  fail("a frame of unknown type " + std::to_string(type) + " (the programs are of different versions, or the " +
       "connection is damaged)");
}

void check_header(const FrameHeader& header) {
  if (header.version != kProtocolVersion)
    fail("a frame of protocol version " + std::to_string(header.version) + "; this program speaks version " +
         std::to_string(kProtocolVersion) + ": use tenfold and tenfold-trainer of one build");
  const std::size_t limit = payload_limit(header.type);
  if (header.length > limit)
    fail("a frame of type " + std::to_string(header.type) + " with " + std::to_string(header.length) +
         " bytes; the limit is " + std::to_string(limit));
}

std::string shortened(const std::string& reason) {
  return reason.size() <= kMaxReasonBytes ? reason : reason.substr(0, kMaxReasonBytes) + " ...";
}

json to_json(const CheckpointRef& ref) {
  return {{"path", ref.path}, {"array_index", ref.array_index}, {"step", ref.step}, {"sha256", ref.sha256}};
}

std::optional<CheckpointRef> checkpoint_ref(const json& member, const char* key) {
  const auto found = member.find(key);
  if (found == member.end() || found->is_null()) return std::nullopt;
  if (!found->is_object()) fail(std::string("field '") + key + "' of a job is not a checkpoint");
  return CheckpointRef{text(*found, "path"), integer<std::int64_t>(*found, "array_index"),
                       integer<std::int64_t>(*found, "step"), text(*found, "sha256")};
}

JobMember job_member(const json& value, std::size_t configurations) {
  if (!value.is_object()) fail("a job with a member that is not an object");
  JobMember member;
  member.unit = integer<std::int64_t>(value, "unit");
  member.configuration = integer<std::int32_t>(value, "configuration");
  if (member.configuration < 0 || static_cast<std::size_t>(member.configuration) >= configurations)
    fail("a job with a member of configuration " + std::to_string(member.configuration) + " of " +
         std::to_string(configurations));
  member.repeat = integer<std::int32_t>(value, "repeat");
  member.fold = integer<std::int32_t>(value, "fold");
  member.resume = checkpoint_ref(value, "resume");
  member.fit = checkpoint_ref(value, "fit");
  if (value.contains("rate_scale")) member.rate_scale = number(value, "rate_scale");
  if (!(member.rate_scale > 0)) fail("a job with a member whose rate is scaled by no positive number");
  return member;
}

JobGroup job_group(const json& job) {
  const auto found = job.find("group");
  if (found == job.end() || !found->is_object()) fail("a job without its group");
  const JobGroup group{integer<std::int32_t>(*found, "rank"), integer<std::int32_t>(*found, "size"),
                       text(*found, "host"), boolean(*found, "one_host")};
  if (group.size < 1 || group.rank < 0 || group.rank >= group.size)
    fail("a job for member " + std::to_string(group.rank) + " of a group of " + std::to_string(group.size));
  return group;
}

}  // namespace

std::size_t max_payload_bytes(FrameType type) { return payload_limit(static_cast<std::uint16_t>(type)); }

void append_frame(std::string& bytes, FrameType type, std::uint64_t attempt, std::string_view payload) {
  const std::size_t limit = max_payload_bytes(type);
  if (payload.size() > limit)
    fail("a message of " + std::to_string(payload.size()) + " bytes is over its limit of " + std::to_string(limit));
  const FrameHeader header{static_cast<std::uint32_t>(payload.size()), kProtocolVersion,
                           static_cast<std::uint16_t>(type), attempt};
  bytes.append(reinterpret_cast<const char*>(&header), sizeof header);
  bytes.append(payload);
}

std::string encode_frame(FrameType type, std::uint64_t attempt, std::string_view payload) {
  std::string bytes;
  bytes.reserve(sizeof(FrameHeader) + std::min(payload.size(), kMaxFrameBytes));
  append_frame(bytes, type, attempt, payload);
  return bytes;
}

void FrameParser::feed(std::span<const char> bytes) {
  // Moving the rest to the front only once it is the smaller half keeps the work linear in what is fed.
  if (consumed_ == buffer_.size()) {
    buffer_.clear();
    consumed_ = 0;
  } else if (consumed_ > buffer_.size() / 2) {
    buffer_.erase(0, consumed_);
    consumed_ = 0;
  }
  buffer_.append(bytes.data(), bytes.size());
}

std::optional<Frame> FrameParser::next() {
  if (pending_bytes() < sizeof(FrameHeader)) return std::nullopt;
  FrameHeader header;
  std::memcpy(&header, buffer_.data() + consumed_, sizeof header);
  check_header(header);
  if (pending_bytes() < sizeof header + header.length) return std::nullopt;
  Frame frame{static_cast<FrameType>(header.type), header.attempt,
              buffer_.substr(consumed_ + sizeof header, header.length)};
  consumed_ += sizeof header + header.length;
  return frame;
}

std::string encode(const ArrayJob& job) {
  json members = json::array();
  for (const JobMember& member : job.members) {
    json value = {{"unit", member.unit},
                  {"configuration", member.configuration},
                  {"repeat", member.repeat},
                  {"fold", member.fold}};
    if (member.resume) value["resume"] = to_json(*member.resume);
    if (member.fit) value["fit"] = to_json(*member.fit);
    if (member.rate_scale != 1) value["rate_scale"] = member.rate_scale;
    members.push_back(std::move(value));
  }
  return dump_exactly({{"stage", job.stage == Stage::fit ? "fit" : "adapt"},
                       {"configurations", job.configurations},
                       {"members", std::move(members)},
                       {"fingerprint", job.fingerprint},
                       {"checkpoint_folder", job.checkpoint_folder},
                       {"cache_folder", job.cache_folder},
                       {"array", job.array},
                       {"empty", job.empty},
                       {"group",
                        {{"rank", job.group.rank},
                         {"size", job.group.size},
                         {"host", job.group.host},
                         {"one_host", job.group.one_host}}}});
}

ArrayJob decode_job(std::string_view bytes) {
  const json value = parse_object(bytes, "a job");
  ArrayJob job;
  const std::string stage = text(value, "stage");
  if (stage != "fit" && stage != "adapt") fail("a job of unknown stage '" + stage + "'");
  job.stage = stage == "fit" ? Stage::fit : Stage::adapt;
  for (const json& configuration : list(value, "configurations")) {
    if (!configuration.is_string()) fail("a job with a configuration that is not a text");
    job.configurations.push_back(configuration.get<std::string>());
  }
  const json& members = list(value, "members");
  job.members.reserve(members.size());
  for (const json& member : members) job.members.push_back(job_member(member, job.configurations.size()));
  job.fingerprint = text(value, "fingerprint");
  job.checkpoint_folder = text(value, "checkpoint_folder");
  job.cache_folder = text(value, "cache_folder");
  job.array = text(value, "array");
  job.empty = boolean(value, "empty");
  job.group = job_group(value);
  return job;
}

std::string encode(const CheckpointNotice& notice) {
  return dump_exactly({{"path", notice.path},
                       {"step", notice.step},
                       {"sha256", notice.sha256},
                       {"bytes", notice.bytes},
                       {"last", notice.last},
                       {"members", notice.members}});
}

CheckpointNotice decode_checkpoint(std::string_view bytes) {
  const json value = parse_object(bytes, "a checkpoint notice");
  CheckpointNotice notice;
  notice.path = text(value, "path");
  notice.step = integer<std::int64_t>(value, "step");
  notice.sha256 = text(value, "sha256");
  notice.bytes = integer<std::int64_t>(value, "bytes");
  notice.last = boolean(value, "last");
  for (const json& member : list(value, "members")) {
    if (!member.is_number_integer()) fail("a checkpoint notice with a member that is not an integer");
    const json wrapped = {{"member", member}};
    notice.members.push_back(integer<std::int32_t>(wrapped, "member"));
  }
  return notice;
}

std::string encode(const MemberOutcome& outcome) {
  return dump_for_people({{"member", outcome.member},
                          {"status", to_string(outcome.status)},
                          {"reason", shortened(outcome.reason)},
                          {"retry", outcome.retry},
                          {"nonfinite", outcome.nonfinite},
                          {"steps", outcome.steps},
                          {"wall_s", finite_or_null(outcome.wall_s)},
                          {"peak_memory_bytes", outcome.peak_memory_bytes}});
}

MemberOutcome decode_outcome(std::string_view bytes) {
  const json value = parse_object(bytes, "a member's outcome");
  MemberOutcome outcome;
  outcome.member = integer<std::int32_t>(value, "member");
  const std::string status = text(value, "status");
  bool known = false;
  for (const TrialStatus candidate : {TrialStatus::done, TrialStatus::failed, TrialStatus::stopped})
    if (status == to_string(candidate)) {
      outcome.status = candidate;
      known = true;
    }
  if (!known) fail("a member's outcome of unknown status '" + status + "'");
  outcome.reason = text(value, "reason");
  outcome.retry = boolean(value, "retry");
  outcome.nonfinite = boolean(value, "nonfinite");
  outcome.steps = integer<std::int64_t>(value, "steps");
  outcome.wall_s = number(value, "wall_s");
  outcome.peak_memory_bytes = integer<std::int64_t>(value, "peak_memory_bytes");
  return outcome;
}

std::string encode(const Progress& progress) {
  return json{{"step", progress.step},
              {"steps", progress.steps},
              {"updates_per_s", finite_or_null(progress.updates_per_s)},
              {"total", finite_or_null(progress.total)},
              {"entropy", finite_or_null(progress.entropy)},
              {"diversity", finite_or_null(progress.diversity)}}
      .dump();
}

Progress decode_progress(std::string_view bytes) {
  const json value = parse_object(bytes, "a heartbeat");
  return Progress{integer<std::int64_t>(value, "step"),
                  integer<std::int64_t>(value, "steps"),
                  number(value, "updates_per_s"),
                  number(value, "total"),
                  number(value, "entropy"),
                  number(value, "diversity")};
}

std::string encode(const ReadyNotice& notice) {
  return dump_for_people(
      {{"pid", notice.pid}, {"device", notice.device}, {"torch", notice.torch}, {"memory_bytes", notice.memory_bytes}});
}

ReadyNotice decode_ready(std::string_view bytes) {
  const json value = parse_object(bytes, "a ready notice");
  return {integer<std::int64_t>(value, "pid"), text(value, "device"), text(value, "torch"),
          integer<std::int64_t>(value, "memory_bytes")};
}

std::string encode(const FailureNotice& notice) {
  return dump_for_people({{"kind", notice.kind}, {"reason", shortened(notice.reason)}});
}

FailureNotice decode_failure(std::string_view bytes) {
  const json value = parse_object(bytes, "a failure notice");
  return {text(value, "kind"), text(value, "reason")};
}

std::string encode(const GroupAddress& address) { return json{{"address", address.address}}.dump(); }

GroupAddress decode_group_address(std::string_view bytes) {
  return {text(parse_object(bytes, "a group's address"), "address")};
}

}  // namespace tenfold
