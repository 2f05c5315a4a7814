#include "trainer/protocol.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "experiments/error.h"
#include "experiments/metric.h"
#include "trainer/protocol_diagnose.h"

namespace tenfold {
namespace {

constexpr FrameType kTypes[] = {
    FrameType::job,       FrameType::drain, FrameType::shutdown,   FrameType::alive,       FrameType::ready,
    FrameType::heartbeat, FrameType::rows,  FrameType::checkpoint, FrameType::member_done, FrameType::job_done,
    FrameType::failure,   FrameType::join,  FrameType::meeting};
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class Function>
void expect_communication_error(Function&& function, const std::string& part = "") {
  try {
    function();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::communication);
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

std::string random_bytes(std::mt19937& random, std::size_t size) {
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

std::string header_bytes(std::uint32_t length, std::uint16_t version, std::uint16_t type) {
  const FrameHeader header{length, version, type, 7};
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

TEST(FrameParser, GivesWhatWasEncodedHoweverItIsCut) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<Frame> sent;
    std::string stream;
    for (int i = 0; i < 20; ++i) {
      const std::size_t size = random() % 4 == 0 ? random() % 60000 : random() % 40;
      sent.push_back({kTypes[random() % std::size(kTypes)], random(), random_bytes(random, size)});
      stream += encode_frame(sent.back().type, sent.back().attempt, sent.back().payload);
    }
    FrameParser parser;
    std::vector<Frame> received;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t size = std::min<std::size_t>(stream.size() - at, 1 + random() % (random() % 2 ? 7 : 9000));
      parser.feed({stream.data() + at, size});
      at += size;
      while (auto frame = parser.next()) received.push_back(std::move(*frame));
    }
    ASSERT_EQ(received.size(), sent.size());
    for (std::size_t i = 0; i < sent.size(); ++i) {
      EXPECT_EQ(received[i].type, sent[i].type);
      EXPECT_EQ(received[i].attempt, sent[i].attempt);
      EXPECT_EQ(received[i].payload, sent[i].payload);
    }
    EXPECT_EQ(parser.pending_bytes(), 0u);
  }
}

TEST(FrameParser, FlippedBytesAreAnErrorOrAnotherFrameButNeverHarm) {
  std::mt19937 random(2);
  int errors = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string stream;
    for (int i = 0; i < 4; ++i)
      stream += encode_frame(kTypes[random() % std::size(kTypes)], i, random_bytes(random, random() % 100));
    for (int flips = 1 + random() % 3; flips > 0; --flips)
      stream[random() % stream.size()] ^= static_cast<char>(1u << (random() % 8));
    FrameParser parser;
    std::size_t received = 0;
    try {
      parser.feed(stream);
      while (auto frame = parser.next()) {
        received += sizeof(FrameHeader) + frame->payload.size();
        EXPECT_LE(frame->payload.size(), max_payload_bytes(frame->type));
      }
      EXPECT_EQ(received + parser.pending_bytes(), stream.size());
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::communication);
      ++errors;
    }
  }
  EXPECT_GT(errors, 100);
}

TEST(FrameParser, RefusesAHeaderBeforeItsPayloadArrives) {
  const auto feed = [](const std::string& bytes) {
    FrameParser parser;
    parser.feed(bytes);
    return parser.next();
  };
  const auto job = static_cast<std::uint16_t>(FrameType::job), rows = static_cast<std::uint16_t>(FrameType::rows);
  expect_communication_error([&] { feed(header_bytes(0, kProtocolVersion + 1, job)); }, "version 2");
  expect_communication_error([&] { feed(header_bytes(0, kProtocolVersion, 0)); }, "unknown type 0");
  expect_communication_error([&] { feed(header_bytes(0, kProtocolVersion, 12345)); }, "12345");
  expect_communication_error([&] { feed(header_bytes(0xFFFFFFFF, kProtocolVersion, job)); }, "4294967295");
  expect_communication_error([&] { feed(header_bytes(kMaxFrameBytes + 1, kProtocolVersion, job)); }, "limit");
  expect_communication_error([&] { feed(header_bytes(kMaxRowBlockBytes + 1, kProtocolVersion, rows)); }, "limit");
  EXPECT_FALSE(feed(header_bytes(kMaxRowBlockBytes, kProtocolVersion, rows)));
  EXPECT_FALSE(feed(header_bytes(0, kProtocolVersion, job).substr(0, 15)));
}

TEST(FrameParser, AnErrorStaysAnError) {
  FrameParser parser;
  parser.feed(header_bytes(0, 9, 1));
  expect_communication_error([&] { parser.next(); });
  parser.feed(encode_frame(FrameType::alive, 0, ""));
  expect_communication_error([&] { parser.next(); });
}

TEST(Frames, RefusesToEncodeWhatNobodyWouldRead) {
  expect_communication_error([] { encode_frame(FrameType::rows, 1, std::string(kMaxRowBlockBytes + 1, 'x')); },
                             "limit");
  EXPECT_EQ(encode_frame(FrameType::alive, 1, "").size(), sizeof(FrameHeader));
}

template <class Row>
bool same_bytes(const std::vector<Row>& a, const std::vector<Row>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(Row)) == 0);
}

TEST(RowBlocks, KeepEveryBit) {
  const std::vector<TrainStepRow> train = {{1, 0, 2.5, 1e-3, kNaN, 0.25}, {2, 0, -0.0, 1e-3, 1.0, 0.5}};
  const std::vector<TttStepRow> ttt = {{0, 1.5, 1.4, 0.1, 0.15, 0.9, 10, 0.2, 3.0, 3e-5, 0.1}};
  const std::vector<EvaluationRow> evaluations = {{50, 0.75, 270, 360, metric_index("accuracy"), Phase::before, {}},
                                                  {50, kNaN, -1, 360, metric_index("nll"), Phase::after, {}}};
  const RowBlock a = decode_rows(encode_rows<TrainStepRow>(RowKind::train_step, 3, train));
  EXPECT_EQ(a.header.kind, RowKind::train_step);
  EXPECT_EQ(a.header.member, 3u);
  EXPECT_EQ(a.header.count, 2u);
  EXPECT_TRUE(same_bytes(a.train_steps, train));
  EXPECT_TRUE(a.ttt_steps.empty() && a.evaluations.empty());
  EXPECT_TRUE(same_bytes(decode_rows(encode_rows<TttStepRow>(RowKind::ttt_step, 0, ttt)).ttt_steps, ttt));
  EXPECT_TRUE(same_bytes(decode_rows(encode_rows<EvaluationRow>(RowKind::evaluation, 0, evaluations)).evaluations,
                         evaluations));
  EXPECT_EQ(decode_rows(encode_rows<TttStepRow>(RowKind::ttt_step, 0, {})).header.count, 0u);

  const std::vector<InnerLossRow> inner = {{40, 2047, 1.5, 1.25, kNaN, 31, Phase::validation, {}}};
  EXPECT_TRUE(same_bytes(decode_rows(encode_rows<InnerLossRow>(RowKind::inner_loss, 2, inner)).inner_losses, inner));
  const std::vector<GateRow> gates = {{40, 0.1, -0.25, 0.5, 31, 0}, {40, 0.0, 0.0, 0.0, 0, 0}};
  EXPECT_TRUE(same_bytes(decode_rows(encode_rows<GateRow>(RowKind::gate, 0, gates)).gates, gates));
  const std::vector<PositionLossRow> positions = {{7, 511, 3.25, 64, 7, Phase::after, {}}};
  EXPECT_TRUE(same_bytes(
      decode_rows(encode_rows<PositionLossRow>(RowKind::position_loss, 0, positions)).position_losses, positions));
  const std::vector<GroupStepRow> groups = {{1, 2.5, 0.125, static_cast<std::int32_t>(ParameterGroup::lora), 0}};
  EXPECT_TRUE(same_bytes(decode_rows(encode_rows<GroupStepRow>(RowKind::group_step, 0, groups)).group_steps, groups));
}

TEST(RowBlocks, TheFullestBlockFitsOneFrame) {
  const std::vector<TttStepRow> rows(max_rows_per_block(sizeof(TttStepRow)));
  const std::string payload = encode_rows<TttStepRow>(RowKind::ttt_step, 0, rows);
  EXPECT_LE(sizeof(FrameHeader) + payload.size(), kMaxRowBlockBytes);
  EXPECT_GT(sizeof(FrameHeader) + payload.size() + sizeof(TttStepRow), kMaxRowBlockBytes);
}

TEST(RowBlocks, DisagreeingSizesAndValuesAreErrors) {
  const std::vector<TrainStepRow> rows(3);
  const std::string good = encode_rows<TrainStepRow>(RowKind::train_step, 0, rows);
  expect_communication_error([&] { decode_rows(""); });
  expect_communication_error([&] { decode_rows(good.substr(0, 15)); });
  expect_communication_error([&] { decode_rows(good.substr(0, good.size() - 1)); }, "3 rows");
  expect_communication_error([&] { decode_rows(good + "x"); });
  std::string wrong = good;
  wrong[0] = static_cast<char>(kRowKinds);
  expect_communication_error([&] { decode_rows(wrong); }, "unknown kind");
  wrong = good;
  std::memset(wrong.data() + 8, 0xFF, 4);
  expect_communication_error([&] { decode_rows(wrong); }, "4294967295 rows");

  const std::vector<EvaluationRow> metric = {{0, 0.5, 1, 2, 99, Phase::after, {}}};
  expect_communication_error([&] { decode_rows(encode_rows<EvaluationRow>(RowKind::evaluation, 0, metric)); }, "99");
  const std::vector<EvaluationRow> sound = {{0, 0.5, 1, 2, 0, Phase::after, {}}};
  std::string phase = encode_rows<EvaluationRow>(RowKind::evaluation, 0, sound);
  phase[sizeof(RowBlockHeader) + offsetof(EvaluationRow, phase)] = 9;
  expect_communication_error([&] { decode_rows(phase); }, "phase");

  const std::vector<InnerLossRow> layer = {{1, 0, 1, 1, 1, -1, Phase::after, {}}};
  expect_communication_error([&] { decode_rows(encode_rows<InnerLossRow>(RowKind::inner_loss, 0, layer)); },
                             "layer -1");
  const std::vector<InnerLossRow> inner = {{1, 0, 1, 1, 1, 0, Phase::after, {}}};
  std::string inner_phase = encode_rows<InnerLossRow>(RowKind::inner_loss, 0, inner);
  inner_phase[sizeof(RowBlockHeader) + offsetof(InnerLossRow, phase)] = 5;
  expect_communication_error([&] { decode_rows(inner_phase); }, "phase");
  const std::vector<PositionLossRow> position = {{1, -7, 1, 1, 0, Phase::after, {}}};
  expect_communication_error([&] { decode_rows(encode_rows<PositionLossRow>(RowKind::position_loss, 0, position)); },
                             "position -7");
  const std::vector<GroupStepRow> group = {{1, 1, 1, 4, 0}};
  expect_communication_error([&] { decode_rows(encode_rows<GroupStepRow>(RowKind::group_step, 0, group)); }, "group 4");
  std::vector<PairScoreRow> pairs = {{1, 0.5, 0, 1, 1, 0, 0, 2, Phase::before, "verbs"}};
  EXPECT_STREQ(decode_rows(encode_rows<PairScoreRow>(RowKind::pair_score, 3, pairs)).pair_scores.at(0).task, "verbs");
  std::fill(std::begin(pairs[0].task), std::end(pairs[0].task), 'x');
  expect_communication_error([&] { decode_rows(encode_rows<PairScoreRow>(RowKind::pair_score, 0, pairs)); }, "endless");
}

ArrayJob sample_job() {
  ArrayJob job;
  job.stage = Stage::adapt;
  job.configurations = {R"({"name": "digits"})", "two\n\"quoted\" \xC3\xA4"};
  job.members.push_back({12, 0, 1, 2, std::nullopt, CheckpointRef{"/tmp/a.safetensors", 3, 900, "ab"}, 0.25});
  job.members.push_back({std::int64_t{1} << 60, 1, 0, 4, CheckpointRef{"/tmp/b", 0, 7, "cd"}, std::nullopt, 1.0});
  job.fingerprint = "00ff";
  job.checkpoint_folder = "/tmp/x.checkpoints";
  job.cache_folder = "/tmp/cache";
  job.array = "adapt-7";
  job.empty = true;
  job.group = {2, 4, "node7", false};
  return job;
}

TEST(Messages, AJobComesBackAsItWas) {
  const ArrayJob sent = sample_job();
  const ArrayJob job = decode_job(encode(sent));
  EXPECT_EQ(job.stage, sent.stage);
  EXPECT_EQ(job.configurations, sent.configurations);
  ASSERT_EQ(job.members.size(), 2u);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(job.members[i].unit, sent.members[i].unit);
    EXPECT_EQ(job.members[i].configuration, sent.members[i].configuration);
    EXPECT_EQ(job.members[i].repeat, sent.members[i].repeat);
    EXPECT_EQ(job.members[i].fold, sent.members[i].fold);
    EXPECT_EQ(job.members[i].resume, sent.members[i].resume);
    EXPECT_EQ(job.members[i].fit, sent.members[i].fit);
    EXPECT_EQ(job.members[i].rate_scale, sent.members[i].rate_scale);
  }
  EXPECT_EQ(job.fingerprint, sent.fingerprint);
  EXPECT_EQ(job.checkpoint_folder, sent.checkpoint_folder);
  EXPECT_EQ(job.cache_folder, sent.cache_folder);
  EXPECT_EQ(job.array, sent.array);
  EXPECT_TRUE(job.empty);
  EXPECT_EQ(job.group, sent.group);
  EXPECT_EQ(decode_job(encode(ArrayJob{})).stage, Stage::fit);
}

TEST(Messages, NoticesComeBackAsTheyWere) {
  const CheckpointNotice notice =
      decode_checkpoint(encode(CheckpointNotice{"/a b/c", 1000, "ff", 1 << 20, true, {2, 0}}));
  EXPECT_EQ(notice.path, "/a b/c");
  EXPECT_EQ(notice.step, 1000);
  EXPECT_EQ(notice.sha256, "ff");
  EXPECT_EQ(notice.bytes, 1 << 20);
  EXPECT_TRUE(notice.last);
  EXPECT_EQ(notice.members, (std::vector<std::int32_t>{2, 0}));

  for (const TrialStatus status : {TrialStatus::done, TrialStatus::failed, TrialStatus::stopped}) {
    const MemberOutcome outcome =
        decode_outcome(encode(MemberOutcome{4, status, "loss is NaN", false, true, 9, 0.1, 77}));
    EXPECT_TRUE(outcome.nonfinite);
    EXPECT_EQ(outcome.member, 4);
    EXPECT_EQ(outcome.status, status);
    EXPECT_EQ(outcome.reason, "loss is NaN");
    EXPECT_FALSE(outcome.retry);
    EXPECT_EQ(outcome.steps, 9);
    EXPECT_EQ(outcome.wall_s, 0.1);
    EXPECT_EQ(outcome.peak_memory_bytes, 77);
  }

  const Progress progress = decode_progress(encode(Progress{5, 50, 1.0 / 3, 2.25, kNaN, kNaN}));
  EXPECT_EQ(progress.step, 5);
  EXPECT_EQ(progress.steps, 50);
  EXPECT_EQ(progress.updates_per_s, 1.0 / 3);
  EXPECT_EQ(progress.total, 2.25);
  EXPECT_TRUE(std::isnan(progress.entropy) && std::isnan(progress.diversity));
  EXPECT_NE(encode(Progress{0, 0, 0, kNaN, 0, 0}).find("null"), std::string::npos);

  const ReadyNotice ready = decode_ready(encode(ReadyNotice{123, "cpu", "2.11.0", 5}));
  EXPECT_EQ(ready.pid, 123);
  EXPECT_EQ(ready.device, "cpu");
  EXPECT_EQ(ready.torch, "2.11.0");
  EXPECT_EQ(ready.memory_bytes, 5);
  EXPECT_EQ(decode_failure(encode(FailureNotice{"data error", "no such file"})).reason, "no such file");
  EXPECT_EQ(decode_group_address(encode(GroupAddress{"127.0.0.1:4711 s\xC3\xA9"})).address, "127.0.0.1:4711 s\xC3\xA9");
}

TEST(Messages, ReasonsOfAnyBytesAndLengthArrive) {
  MemberOutcome outcome;
  outcome.reason = "bad \xFF\xFE bytes";
  EXPECT_NE(decode_outcome(encode(outcome)).reason.find("bytes"), std::string::npos);
  outcome.reason.assign(std::size_t{4} << 20, 'x');
  EXPECT_LE(encode(outcome).size(), max_payload_bytes(FrameType::member_done));
  CheckpointNotice notice;
  notice.path = "/tmp/\xFF";
  EXPECT_THROW(encode(notice), Error);
}

TEST(Messages, MalformedJsonIsACommunicationError) {
  for (const char* text : {"", "{", "[]", "null", "{}", "\xFF", R"({"stage": "fit"})"}) {
    expect_communication_error([&] { decode_job(text); });
    expect_communication_error([&] { decode_checkpoint(text); });
    expect_communication_error([&] { decode_outcome(text); });
    expect_communication_error([&] { decode_progress(text); });
    expect_communication_error([&] { decode_ready(text); });
    expect_communication_error([&] { decode_failure(text); });
    expect_communication_error([&] { decode_group_address(text); });
  }
  expect_communication_error([] { decode_job(std::string(200000, '[')); });
  const auto replaced = [](std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const std::string job = encode(sample_job()), outcome = encode(MemberOutcome{});
  expect_communication_error([&] { decode_job(replaced(job, "\"adapt\"", "\"sleep\"")); }, "sleep");
  expect_communication_error([&] { decode_job(replaced(job, "\"configuration\":1", "\"configuration\":2")); },
                             "2 of 2");
  expect_communication_error([&] { decode_job(replaced(job, "\"fold\":4", "\"fold\":4.5")); }, "fold");
  expect_communication_error([&] { decode_job(replaced(job, "\"fold\":4", "\"fold\":4294967296")); }, "range");
  expect_communication_error([&] { decode_job(replaced(job, "\"empty\":true", "\"empty\":1")); }, "empty");
  expect_communication_error([&] { decode_job(replaced(job, "\"step\":900", "\"step\":18446744073709551615")); },
                             "range");
  expect_communication_error([&] { decode_job(replaced(job, "\"size\":4", "\"size\":2")); }, "group of 2");
  expect_communication_error([&] { decode_job(replaced(job, "0.25", "-0.25")); }, "rate");
  expect_communication_error([&] { decode_outcome(replaced(outcome, "\"done\"", "\"running\"")); }, "running");
}

DiagnoseResult sample_result() {
  DiagnoseResult result;
  DiagnosedLayer layer;
  layer.layer = 31;
  layer.kind = "mlp";
  layer.l0 = {1.5, 1.25, kNaN};
  layer.lprev = {1.5, 1.0, kNaN};
  layer.lafter = {1.25, 0.5, kNaN};
  layer.gate_mean_abs = 0.125;
  layer.movement_end = 2.5;
  layer.mini_batch_size = 16;
  result.layers = {layer};
  result.model.kind = "transformer_lm";
  result.model.layers = 32;
  result.model.stream_length = 3;
  result.model.streams = 1;
  result.model.nll = 2.25;
  result.model.position_loss = {3, 2, 1};
  result.model.codebook_shares = {0.75, 0.25};
  result.model.token_classes = {{"letter", 0.75, 0.5, 1.5}, {"digit", 0.25, 0.5, 4.5}};
  result.model.missing = {"layers.31.ttt.alpha"};
  return result;
}

TEST(Diagnosis, JobsAndResultsComeBackAsSent) {
  DiagnoseJob job;
  job.checkpoint = "/store/db.checkpoints/array-1-10.safetensors";
  job.array_index = 3;
  job.configuration = "{\"name\": \"x\"}";
  job.sample_shape = {512};
  job.classes = 40;
  job.input = "/data/stream.npy";
  job.fold = 2;
  job.max_positions = 128;
  job.output = "/tmp/result.json";
  EXPECT_EQ(decode_diagnose_job(encode(job)), job);

  const DiagnoseResult result = sample_result();
  const DiagnoseResult back = decode_diagnose_result(encode(result));
  ASSERT_EQ(back.layers.size(), 1u);
  EXPECT_EQ(back.layers[0].layer, 31);
  EXPECT_EQ(back.layers[0].lprev[1], 1.0);
  EXPECT_TRUE(std::isnan(back.layers[0].lafter[2]));
  EXPECT_EQ(back.layers[0].gate_mean_abs, 0.125);
  EXPECT_TRUE(std::isnan(back.layers[0].movement_start));
  EXPECT_EQ(back.layers[0].mini_batch_size, 16);
  EXPECT_EQ(back.model.position_loss, result.model.position_loss);
  EXPECT_EQ(back.model.codebook_shares, result.model.codebook_shares);
  EXPECT_EQ(back.model.token_classes, result.model.token_classes);
  EXPECT_EQ(back.model.missing, result.model.missing);
  EXPECT_EQ(encode(back), encode(result));
}

TEST(Diagnosis, MalformedResultsAreErrors) {
  expect_communication_error([] { decode_diagnose_result("{}"); }, "layers");
  expect_communication_error([] { decode_diagnose_result("[1]"); });
  DiagnoseResult uneven = sample_result();
  uneven.layers[0].lprev.pop_back();
  expect_communication_error([&] { decode_diagnose_result(encode(uneven)); }, "differ in length");
  DiagnoseResult batch = sample_result();
  batch.layers[0].mini_batch_size = 0;
  expect_communication_error([&] { decode_diagnose_result(encode(batch)); }, "less than 1");
  DiagnoseJob none;
  none.max_positions = 0;
  expect_communication_error([&] { decode_diagnose_job(encode(none)); }, "position");
}

}  // namespace
}  // namespace tenfold
