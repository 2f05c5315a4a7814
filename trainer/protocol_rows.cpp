#include <cstddef>
#include <cstring>

#include "experiments/error.h"
#include "experiments/metric.h"
#include "trainer/protocol.h"

// The packed rows of a rows frame, read without trust.
namespace tenfold {
namespace {

[[noreturn]] void fail(const std::string& what) { throw Error(ErrorKind::communication, what); }

// Before unpacking, as an enum must not hold a value that is none of its own.
template <class Row>
void check_phases(std::string_view rows, const char* what) {
  for (std::size_t row = 0; row + sizeof(Row) <= rows.size(); row += sizeof(Row))
    if (static_cast<std::uint8_t>(rows[row + offsetof(Row, phase)]) > static_cast<std::uint8_t>(Phase::after))
      fail(std::string(what) + " of an unknown phase");
}

void check_index(std::int64_t index, const char* what) {
  if (index < 0) fail(std::string(what) + " " + std::to_string(index) + ", which is below 0");
}

template <class Row>
std::vector<Row> unpack(std::string_view bytes, std::uint32_t count) {
  if (bytes.size() != std::uint64_t{count} * sizeof(Row))
    fail("a block of " + std::to_string(count) + " rows with " + std::to_string(bytes.size()) + " bytes instead of " +
         std::to_string(std::uint64_t{count} * sizeof(Row)));
  std::vector<Row> rows(count);
  if (count > 0) std::memcpy(rows.data(), bytes.data(), bytes.size());
  return rows;
}

}  // namespace

RowBlock decode_rows(std::string_view payload) {
  RowBlock block;
  if (payload.size() < sizeof block.header) fail("a block of rows that ends inside its header");
  // The kind is read as a number first: an enum must not hold a value that is none of its own.
  std::uint32_t words[4];
  static_assert(sizeof words == sizeof(RowBlockHeader));
  std::memcpy(words, payload.data(), sizeof words);
  if (words[0] >= kRowKinds || words[3] != 0) fail("a block of rows of unknown kind " + std::to_string(words[0]));
  block.header = {static_cast<RowKind>(words[0]), words[1], words[2], words[3]};
  const std::string_view rows = payload.substr(sizeof words);
  switch (block.header.kind) {
    case RowKind::train_step:
      block.train_steps = unpack<TrainStepRow>(rows, block.header.count);
      break;
    case RowKind::ttt_step:
      block.ttt_steps = unpack<TttStepRow>(rows, block.header.count);
      break;
    case RowKind::evaluation: {
      check_phases<EvaluationRow>(rows, "an evaluation row");
      block.evaluations = unpack<EvaluationRow>(rows, block.header.count);
      for (const EvaluationRow& row : block.evaluations)
        if (row.metric < 0 || static_cast<std::size_t>(row.metric) >= metrics().size())
          fail("an evaluation row of unknown metric " + std::to_string(row.metric));
      break;
    }
    case RowKind::inner_loss:
      check_phases<InnerLossRow>(rows, "an inner loss");
      block.inner_losses = unpack<InnerLossRow>(rows, block.header.count);
      for (const InnerLossRow& row : block.inner_losses) {
        check_index(row.layer, "an inner loss of layer");
        check_index(row.position, "an inner loss at position");
      }
      break;
    case RowKind::gate:
      block.gates = unpack<GateRow>(rows, block.header.count);
      for (const GateRow& row : block.gates) check_index(row.layer, "a gate of layer");
      break;
    case RowKind::position_loss:
      check_phases<PositionLossRow>(rows, "a position loss");
      block.position_losses = unpack<PositionLossRow>(rows, block.header.count);
      for (const PositionLossRow& row : block.position_losses) {
        check_index(row.codebook, "a position loss of codebook");
        check_index(row.position, "a position loss at position");
      }
      break;
    case RowKind::group_step:
      block.group_steps = unpack<GroupStepRow>(rows, block.header.count);
      for (const GroupStepRow& row : block.group_steps)
        if (row.group < 0 || row.group > static_cast<std::int32_t>(ParameterGroup::lora))
          fail("a step of the unknown parameter group " + std::to_string(row.group));
      break;
    case RowKind::pair_score:
      check_phases<PairScoreRow>(rows, "a score of minimal pairs");
      block.pair_scores = unpack<PairScoreRow>(rows, block.header.count);
      for (const PairScoreRow& row : block.pair_scores)
        if (std::memchr(row.task, 0, sizeof row.task) == nullptr) fail("a score of minimal pairs with an endless name");
      break;
  }
  return block;
}

}  // namespace tenfold
