#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "experiments/pair_score.h"
#include "experiments/records.h"

// The frames between a worker and its trainer, and, unchanged, between worker and coordinator. A frame
// is a FrameHeader and `length` bytes. Control frames are JSON; metrics are packed row blocks.
namespace tenfold {

enum class FrameType : std::uint16_t {
  // to the trainer
  job = 1,       // JSON ArrayJob: compute this array
  drain = 2,     // stop at the next step boundary, checkpoint, report the members stopped
  shutdown = 3,  // finish nothing, exit
  alive = 4,     // the worker lives; a trainer that hears nothing for 15 s exits
  join = 5,      // JSON GroupAddress: where the leader of the current job's group waits (not to the leader)
  // from the trainer
  ready = 16,        // JSON {pid, device, torch, memory_bytes}: waiting for jobs
  heartbeat = 17,    // JSON Progress, once a second, from a thread of its own
  rows = 18,         // RowBlockHeader and rows
  checkpoint = 19,   // JSON CheckpointNotice: the file is on disk and covers all rows sent before
  member_done = 20,  // JSON MemberOutcome, after the member's last rows
  job_done = 21,     // JSON {}: every member has had its outcome
  failure = 22,      // JSON {kind, reason}: the array as a whole failed (out of memory, bad dataset)
  meeting = 23,      // JSON GroupAddress, from a group's leader: the others may join
};

inline constexpr std::uint16_t kProtocolVersion = 1;
inline constexpr std::size_t kMaxFrameBytes = std::size_t{64} << 20;  // control frames
inline constexpr std::size_t kMaxRowBlockBytes = 64 * 1024;           // rows frames, header included

struct FrameHeader {
  std::uint32_t length;  // bytes that follow
  std::uint16_t version;
  std::uint16_t type;
  std::uint64_t attempt;  // number of the array's dispatch: late frames of an older one are dropped
};
static_assert(sizeof(FrameHeader) == 16);

struct Frame {
  FrameType type{};
  std::uint64_t attempt = 0;
  std::string payload;
};

// Bytes that a frame of this type may carry. Throws Error(communication) on an unknown type.
std::size_t max_payload_bytes(FrameType type);

// Header and payload as bytes. Throws Error(communication) when the payload is over the type's limit.
std::string encode_frame(FrameType type, std::uint64_t attempt, std::string_view payload);
void append_frame(std::string& bytes, FrameType type, std::uint64_t attempt, std::string_view payload);

// Takes bytes as they come, gives whole frames. Throws Error(communication) on a wrong version, an unknown type or
// a length over the type's limit, before anything is allocated.
class FrameParser {
 public:
  void feed(std::span<const char> bytes);
  std::optional<Frame> next();
  std::size_t pending_bytes() const { return buffer_.size() - consumed_; }  // fed, not given yet

 private:
  std::string buffer_;
  std::size_t consumed_ = 0;
};

enum class RowKind : std::uint32_t {
  train_step,
  ttt_step,
  evaluation,
  inner_loss,
  gate,
  position_loss,
  group_step,
  pair_score
};
inline constexpr std::size_t kRowKinds = 8;

// The row struct's kind, so that packing, sending and storing are written once for all of them.
template <class Row>
struct RowKindOf;
template <>
struct RowKindOf<TrainStepRow> : std::integral_constant<RowKind, RowKind::train_step> {};
template <>
struct RowKindOf<TttStepRow> : std::integral_constant<RowKind, RowKind::ttt_step> {};
template <>
struct RowKindOf<EvaluationRow> : std::integral_constant<RowKind, RowKind::evaluation> {};
template <>
struct RowKindOf<InnerLossRow> : std::integral_constant<RowKind, RowKind::inner_loss> {};
template <>
struct RowKindOf<GateRow> : std::integral_constant<RowKind, RowKind::gate> {};
template <>
struct RowKindOf<PositionLossRow> : std::integral_constant<RowKind, RowKind::position_loss> {};
template <>
struct RowKindOf<GroupStepRow> : std::integral_constant<RowKind, RowKind::group_step> {};
template <>
struct RowKindOf<PairScoreRow> : std::integral_constant<RowKind, RowKind::pair_score> {};

struct RowBlockHeader {
  RowKind kind;
  std::uint32_t member;  // index into ArrayJob::members
  std::uint32_t count;
  std::uint32_t reserved;
};
static_assert(sizeof(RowBlockHeader) == 16);

template <class Row>
std::string encode_rows(RowKind kind, std::uint32_t member, std::span<const Row> rows) {
  const RowBlockHeader header{kind, member, static_cast<std::uint32_t>(rows.size()), 0};
  std::string payload(sizeof header + rows.size_bytes(), '\0');
  __builtin_memcpy(payload.data(), &header, sizeof header);
  if (!rows.empty()) __builtin_memcpy(payload.data() + sizeof header, rows.data(), rows.size_bytes());
  return payload;
}

struct RowBlock {
  RowBlockHeader header;
  std::vector<TrainStepRow> train_steps;  // the one of header.kind is filled
  std::vector<TttStepRow> ttt_steps;
  std::vector<EvaluationRow> evaluations;
  std::vector<InnerLossRow> inner_losses;
  std::vector<GateRow> gates;
  std::vector<PositionLossRow> position_losses;
  std::vector<GroupStepRow> group_steps;
  std::vector<PairScoreRow> pair_scores;
};
RowBlock decode_rows(std::string_view payload);  // throws Error(communication) when sizes disagree

// Rows of `row_bytes` that fit one rows frame.
constexpr std::size_t max_rows_per_block(std::size_t row_bytes) {
  return (kMaxRowBlockBytes - sizeof(FrameHeader) - sizeof(RowBlockHeader)) / row_bytes;
}

enum class Stage { fit, adapt };

// A checkpoint as the store knows it: one member of a stacked safetensors file.
struct CheckpointRef {
  std::string path;  // absolute
  std::int64_t array_index = 0;
  std::int64_t step = 0;
  std::string sha256;
  bool operator==(const CheckpointRef&) const = default;
};

struct JobMember {
  std::int64_t unit = 0;           // row id of the fit or trial
  std::int32_t configuration = 0;  // index into ArrayJob::configurations
  std::int32_t repeat = 0;
  std::int32_t fold = 0;
  std::optional<CheckpointRef> resume;  // all members of an array resume from the same step, or none does
  std::optional<CheckpointRef> fit;     // adapt: the trained parameters
  double rate_scale = 1;                // of its learning rate: lowered after a value that was not finite
};

// Trainers that compute one array together: each takes its part of every batch (trainer/README.md). The leader, rank 0,
// alone reports rows, checkpoints and outcomes; every one ends with job_done or failure.
struct JobGroup {
  std::int32_t rank = 0;
  std::int32_t size = 1;
  std::string host;      // of the leader, as the others reach it
  bool one_host = true;  // then nothing listens beyond the loopback
  bool operator==(const JobGroup&) const = default;
};

// Where the leader of a group listens, and the secret of its group; only trainers look inside.
struct GroupAddress {
  std::string address;
  bool operator==(const GroupAddress&) const = default;
};

struct ArrayJob {
  Stage stage = Stage::fit;
  std::vector<std::string> configurations;  // ExperimentSpec as JSON text (experiment.h to_json)
  std::vector<JobMember> members;
  std::string fingerprint;        // of the dataset, hex
  std::string checkpoint_folder;  // files are named <array>-<step>.safetensors
  std::string cache_folder;
  std::string array;   // name for files and logs
  bool empty = false;  // benchmarks: answer at once, compute nothing
  JobGroup group;
};

struct CheckpointNotice {
  std::string path;  // absolute
  std::int64_t step = 0;
  std::string sha256;
  std::int64_t bytes = 0;
  bool last = false;                  // fit: the trained parameters, which trials start from
  std::vector<std::int32_t> members;  // array_index of the i-th is i
};

struct MemberOutcome {
  std::int32_t member = 0;
  TrialStatus status = TrialStatus::done;  // done, failed or stopped
  std::string reason;
  bool retry = true;       // failed: whether another attempt could end differently (a NaN comes back)
  bool nonfinite = false;  // a value was not finite. failed: a lower rate may help; done: it was stopped for that
  std::int64_t steps = 0;
  double wall_s = 0;  // the member's share of the array's time
  std::int64_t peak_memory_bytes = 0;
};

struct Progress {
  std::int64_t step = 0;                         // of the current job
  std::int64_t steps = 0;                        // in all
  double updates_per_s = 0;                      // member updates
  double total = 0, entropy = 0, diversity = 0;  // latest, mean over members; NaN in a fit but for total = loss
};

struct ReadyNotice {
  std::int64_t pid = 0;
  std::string device;             // what the trainer computes on, as a person would name it
  std::string torch;              // version
  std::int64_t memory_bytes = 0;  // that arrays may use: of the GPU, or of the host
};

struct FailureNotice {
  std::string kind;  // to_string(ErrorKind)
  std::string reason;
};

// JSON of the structs above; a NaN is null. Decoding throws Error(communication) on anything malformed.
std::string encode(const ArrayJob& job);
std::string encode(const CheckpointNotice& notice);
std::string encode(const MemberOutcome& outcome);
std::string encode(const Progress& progress);
std::string encode(const ReadyNotice& notice);
std::string encode(const FailureNotice& notice);
std::string encode(const GroupAddress& address);
ArrayJob decode_job(std::string_view json);
CheckpointNotice decode_checkpoint(std::string_view json);
MemberOutcome decode_outcome(std::string_view json);
Progress decode_progress(std::string_view json);
ReadyNotice decode_ready(std::string_view json);
FailureNotice decode_failure(std::string_view json);
GroupAddress decode_group_address(std::string_view json);

}  // namespace tenfold
