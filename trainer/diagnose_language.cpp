#include "trainer/diagnose_language.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "datasets/loaders.h"
#include "datasets/token_classes.h"
#include "experiments/error.h"
#include "trainer/diagnose_recurrent.h"
#include "trainer/language_stream.h"
#include "ttt/inner_loss.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kChunk = 512;                               // positions read at once
constexpr std::int64_t kMostLogits = 1 << 24;                      // values of the logits of one call
constexpr std::int64_t kMostStateBytes = std::int64_t{256} << 20;  // of the streams that are read side by side

bool is_npy(const std::string& path) {
  char magic[6] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
  return std::string(magic, sizeof magic) == "\x93NUMPY";
}

// What turns texts into tokens: the job's, the model's own, or (empty) bytes.
std::string tokenizer_of(const DiagnoseJob& job, const DiagnosedSubject& subject) {
  if (!job.tokenizer.empty()) return job.tokenizer;
  if (!subject.published) return subject.spec.dataset.tokenizer;
  std::error_code error;
  const fs::path path = job.checkpoint;
  const fs::path beside = (fs::is_directory(path, error) ? path : path.parent_path()) / "tokenizer.model";
  return fs::exists(beside, error) ? beside.string() : "";
}

// What the tokens of the stream stand for; nothing where only their numbers are known.
TokenClasses classes_of(const DiagnoseJob& job, const DiagnosedSubject& subject) {
  const bool numbers = job.input.empty() ? subject.spec.dataset.kind != "text" : is_npy(job.input);
  return numbers ? TokenClasses{} : token_classes(tokenizer_of(job, subject));
}

TokenStream stream_of_input(const DiagnoseJob& job, const DiagnosedSubject& subject) {
  const std::int64_t vocabulary = subject.model->data().classes, most = job.max_positions + 1;
  TokenStream stream;
  if (is_npy(job.input)) {
    stream.tokens = first_tokens(job.input, vocabulary, most);
  } else {
    const std::string tokenizer = tokenizer_of(job, subject);
    if (tokenizer.empty() && vocabulary != 256)
      throw Error(ErrorKind::data, job.input + ": the model knows " + std::to_string(vocabulary) +
                                       " tokens, so they are not bytes: name the SentencePiece model of its texts with "
                                       "--tokenizer, or give tokens as an npy file");
    stream.tokens = first_tokens_of_text(job.input, tokenizer, vocabulary, most);
  }
  if (stream.tokens.empty()) throw Error(ErrorKind::data, job.input + ": holds no tokens");
  stream.positions = std::min(static_cast<std::int64_t>(stream.tokens.size()), job.max_positions);
  return stream;
}

// Sums over what was read, in double on the host.
struct Totals {
  double nll = 0, nll_without = 0, kl_without = 0;
  std::map<int, double> kl_of_layer;
  std::int64_t targets = 0, positions = 0, streams = 0;
  std::vector<double> position_nll;
  std::vector<std::int64_t> position_targets;
  TokenClasses classes;           // empty: not known
  std::vector<double> class_nll;  // by class
  std::vector<std::int64_t> class_targets;
  struct Movement {
    double start = 0, end = 0, gap = 0;
    bool gap_known = false;
  };
  std::map<int, Movement> movement;

  void add_class(std::int64_t target, double value) {
    if (static_cast<std::size_t>(target) >= classes.of.size()) return;
    class_nll.resize(classes.names.size());
    class_targets.resize(classes.names.size());
    class_nll[classes.of[static_cast<std::size_t>(target)]] += value;
    ++class_targets[classes.of[static_cast<std::size_t>(target)]];
  }
};

// Streams of one length, read side by side, again and again: with and without their layers, in large calls and small.
class StreamBatch {
 public:
  StreamBatch(const DiagnosedSubject& subject, std::span<const TokenStream* const> streams, const at::Device& device)
      : subject_(subject), length_(streams.front()->positions), batch_(static_cast<std::int64_t>(streams.size())) {
    tokens_ = at::zeros({1, batch_, length_}, at::kLong);
    targets_ = at::full({1, batch_, length_}, -1, at::kLong);
    for (std::int64_t b = 0; b < batch_; ++b) {
      const TokenStream& stream = *streams[static_cast<std::size_t>(b)];
      const auto count = static_cast<std::int64_t>(stream.tokens.size());
      std::int64_t* inputs = tokens_.mutable_data_ptr<std::int64_t>() + b * length_;
      std::int64_t* targets = targets_.mutable_data_ptr<std::int64_t>() + b * length_;
      for (std::int64_t t = 0; t < length_; ++t) inputs[t] = stream.tokens[static_cast<std::size_t>(t)];
      for (std::int64_t t = 0; t < std::min(length_, count - 1); ++t)
        targets[t] = stream.tokens[static_cast<std::size_t>(t) + 1];
    }
    tokens_ = tokens_.to(device);
    mini_batch_ = subject.spec.model.ttt.mini_batch_size;
    const std::int64_t fit = kMostLogits / std::max<std::int64_t>(1, batch_ * subject.model->data().classes);
    chunk_ = std::max<std::int64_t>(1, std::min(kChunk, fit) / mini_batch_) * mini_batch_;
  }

  // The run itself: curves, losses, movement. Returns the bytes of state that it kept.
  std::int64_t run(InnerLossRecorder& recorder, Totals& totals) const {
    LanguageStreamOptions options;
    options.recorder = &recorder;
    const auto stream = make_language_stream(*subject_.model, subject_.state, options);
    std::int64_t first = 0;
    while (first < length_) {
      // The first mini-batch alone: how far one inner step moves.
      const std::int64_t count = std::min(first == 0 ? mini_batch_ : chunk_, length_ - first);
      const at::Tensor nll = losses(stream->feed(tokens_.narrow(2, first, count)), first, count);
      add_losses(nll, first, totals);
      if (first == 0)
        for (const auto& layer : stream->ttt_layers())
          totals.movement[layer.layer].start += layer.movement.sum().item<double>();
      first += count;
    }
    for (const auto& layer : stream->ttt_layers())
      totals.movement[layer.layer].end += layer.movement.sum().item<double>();
    const std::int64_t bytes = stream->state_bytes();
    stream->finish();
    totals.streams += batch_;
    totals.positions += batch_ * length_;
    return bytes;
  }

  // What the logits are without all layers, and without each of them. state_bytes: of one run.
  void compare(std::int64_t state_bytes, Totals& totals) const {
    const std::int64_t together =
        std::clamp<std::int64_t>(kMostStateBytes / std::max<std::int64_t>(1, state_bytes), 1, 64);
    std::vector<int> without{kAll};
    without.insert(without.end(), subject_.ttt_layers.begin(), subject_.ttt_layers.end());
    // The only TTT layer is all of them.
    if (subject_.ttt_layers.size() == 1) without.pop_back();
    for (std::size_t i = 0; i < without.size(); i += static_cast<std::size_t>(together))
      compare(std::span(without).subspan(i, std::min(static_cast<std::size_t>(together), without.size() - i)), totals);
    if (subject_.ttt_layers.size() == 1) totals.kl_of_layer[subject_.ttt_layers.front()] = totals.kl_without;
  }

  // Small calls: is the state carried from one to the next?
  void carry(bool carried, Totals& totals) const {
    const std::int64_t call = length_ <= 4 * mini_batch_ ? mini_batch_ : 2 * mini_batch_;
    if (length_ <= call) return;
    LanguageStreamOptions options;
    options.carry = carried;
    options.measure_carry = true;
    const auto stream = make_language_stream(*subject_.model, subject_.state, options);
    for (std::int64_t first = 0; first < length_; first += call)
      stream->feed(tokens_.narrow(2, first, std::min(call, length_ - first)));
    for (const auto& layer : stream->ttt_layers()) {
      if (!layer.carry_gap.defined()) continue;
      Totals::Movement& movement = totals.movement[layer.layer];
      const double norm = layer.norm.item<double>(), gap = layer.carry_gap.max().item<double>();
      movement.gap = std::max(movement.gap, norm > 0 ? gap / norm : gap);
      movement.gap_known = true;
    }
    stream->finish();
  }

 private:
  static constexpr int kAll = -1;

  // Minus the log probability of each target, (B, T) on the host; NaN where there is none.
  at::Tensor losses(const at::Tensor& logits, std::int64_t first, std::int64_t count) const {
    const at::Tensor target = targets_.narrow(2, first, count);
    const at::Tensor scores = at::log_softmax(logits.to(at::kDouble), -1);
    const at::Tensor nll = -scores.gather(-1, target.clamp_min(0).to(scores.device()).unsqueeze(-1)).squeeze(-1).cpu();
    return at::where(target < 0, at::full({}, std::nan(""), nll.options()), nll)[0].contiguous();
  }

  void add_losses(const at::Tensor& nll, std::int64_t first, Totals& totals) const {
    const auto last = static_cast<std::size_t>(first + nll.size(1));
    if (totals.position_nll.size() < last) {
      totals.position_nll.resize(last);
      totals.position_targets.resize(last);
    }
    const double* values = nll.const_data_ptr<double>();
    const std::int64_t* targets = targets_.const_data_ptr<std::int64_t>();
    for (std::int64_t b = 0; b < batch_; ++b)
      for (std::int64_t t = 0; t < nll.size(1); ++t) {
        if (targets[b * length_ + first + t] < 0) continue;
        const double value = values[b * nll.size(1) + t];
        totals.nll += value;
        ++totals.targets;
        totals.add_class(targets[b * length_ + first + t], value);
        totals.position_nll[static_cast<std::size_t>(first + t)] += value;
        ++totals.position_targets[static_cast<std::size_t>(first + t)];
      }
  }

  void compare(std::span<const int> without, Totals& totals) const {
    const auto with = make_language_stream(*subject_.model, subject_.state);
    std::vector<ModelState> states;
    states.reserve(without.size());  // streams refer to them
    std::vector<std::unique_ptr<LanguageStream>> others;
    for (const int layer : without) {
      LanguageStreamOptions options;
      if (layer == kAll) options.ttt = TttSwitch::off;
      states.push_back(layer == kAll ? subject_.state : silenced(layer));
      others.push_back(make_language_stream(*subject_.model, states.back(), options));
    }
    for (std::int64_t first = 0; first < length_; first += chunk_) {
      const std::int64_t count = std::min(chunk_, length_ - first);
      const at::Tensor tokens = tokens_.narrow(2, first, count);
      const at::Tensor scores = at::log_softmax(with->feed(tokens).to(at::kDouble), -1);
      const at::Tensor shares = scores.exp();
      for (std::size_t i = 0; i < without.size(); ++i) {
        const at::Tensor logits = others[i]->feed(tokens);
        const at::Tensor gap = scores - at::log_softmax(logits.to(at::kDouble), -1);
        const double kl = (shares * gap).sum().item<double>();
        if (without[i] != kAll) {
          totals.kl_of_layer[without[i]] += kl;
          continue;
        }
        totals.kl_without += kl;
        const at::Tensor nll = losses(logits, first, count);
        totals.nll_without +=
            at::where(targets_.narrow(2, first, count)[0] < 0, at::zeros({}, nll.options()), nll).sum().item<double>();
      }
    }
  }

  // The model with one layer bypassed: what multiplies the layer's output is 0.
  ModelState silenced(int layer) const {
    ModelState state = subject_.state;
    const std::vector<ParameterInfo>& parameters = subject_.model->layout().parameters;
    for (std::size_t i = 0; i < parameters.size(); ++i)
      if (parameters[i].layer == layer && (parameters[i].name.ends_with("ttt.gate_alpha") ||
                                           parameters[i].name.ends_with("seq_modeling_block.o_proj.weight")))
        state.parameters[i] = at::zeros_like(state.parameters[i]);
    return state;
  }

  const DiagnosedSubject& subject_;
  std::int64_t length_, batch_, mini_batch_ = 1, chunk_ = 1;
  at::Tensor tokens_;   // (1, B, T) on the device
  at::Tensor targets_;  // (1, B, T) on the host; -1 where there is none
};

// Streams of the same length that are read side by side.
std::vector<std::vector<const TokenStream*>> batches_of(const std::vector<TokenStream>& streams,
                                                        const DiagnosedSubject& subject) {
  std::int64_t bytes = 1;  // of inner models, of one stream: weights, and the sums of their gradients
  for (std::size_t i = 0; i < subject.state.parameters.size(); ++i)
    if (subject.model->layout().parameters[i].group == ParameterGroup::ttt)
      bytes += 2 * static_cast<std::int64_t>(subject.state.parameters[i].nbytes());
  const std::int64_t by_logits =
      kMostLogits / (subject.spec.model.ttt.mini_batch_size * static_cast<std::int64_t>(subject.model->data().classes));
  const auto most =
      static_cast<std::size_t>(std::clamp<std::int64_t>(std::min(kMostStateBytes / bytes, by_logits), 1, 64));
  std::map<std::int64_t, std::vector<const TokenStream*>> by_length;
  for (const TokenStream& stream : streams) by_length[stream.positions].push_back(&stream);
  std::vector<std::vector<const TokenStream*>> batches;
  for (const auto& [length, same] : by_length)
    for (std::size_t i = 0; i < same.size(); i += most)
      batches.emplace_back(same.begin() + static_cast<std::ptrdiff_t>(i),
                           same.begin() + static_cast<std::ptrdiff_t>(std::min(same.size(), i + most)));
  return batches;
}

double mean(double sum, std::int64_t count) {
  return count > 0 ? sum / static_cast<double>(count) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

std::vector<TokenStream> token_streams(const DiagnoseJob& job, const DiagnosedSubject& subject) {
  if (!job.input.empty()) return {stream_of_input(job, subject)};
  const Dataset& host = *subject.fold->dataset->host;
  std::vector<std::int64_t> steps;
  for (const std::int64_t sample : subject.fold->split.test) steps.push_back(host.steps(sample));
  std::vector<TokenStream> streams;
  for (const std::int64_t place : spread_samples(steps)) {
    const std::int64_t sample = subject.fold->split.test[static_cast<std::size_t>(place)];
    TokenStream stream;
    stream.positions = std::min(host.steps(sample), job.max_positions);
    const auto tokens = host.tokens().subspan(static_cast<std::size_t>(host.starts()[static_cast<std::size_t>(sample)]),
                                              static_cast<std::size_t>(stream.positions) + 1);
    stream.tokens.assign(tokens.begin(), tokens.end());
    streams.push_back(std::move(stream));
  }
  return streams;
}

DiagnoseResult diagnose_language(const DiagnoseJob& job, const DiagnosedSubject& subject, const at::Device& device) {
  const std::vector<TokenStream> streams = token_streams(job, subject);
  DiagnoseResult result;
  result.layers = layers_of(subject);
  for (const TokenStream& stream : streams)
    result.model.stream_length = std::max(result.model.stream_length, stream.positions);
  InnerLossRecorder recorder(subject.ttt_layers, 1, result.model.stream_length, device);
  const bool carried = result.layers.front().carried;
  Totals totals;
  totals.classes = classes_of(job, subject);
  for (const auto& batch : batches_of(streams, subject)) {
    const StreamBatch run(subject, batch, device);
    run.compare(run.run(recorder, totals), totals);
    // Samples of a fold are read in one call each: what is not made to carry its state loses none there.
    if (carried || !job.input.empty()) run.carry(carried, totals);
  }
  result.model.streams = totals.streams;
  result.model.nll = mean(totals.nll, totals.targets);
  result.model.nll_without_ttt = mean(totals.nll_without, totals.targets);
  result.model.kl_without_ttt = mean(totals.kl_without, totals.positions);
  for (std::size_t t = 0; t < totals.position_nll.size() && totals.position_targets[t] > 0; ++t)
    result.model.position_loss.push_back(mean(totals.position_nll[t], totals.position_targets[t]));
  for (std::size_t i = 0; i < totals.class_targets.size(); ++i)
    if (totals.class_targets[i] > 0)
      result.model.token_classes.push_back(
          {totals.classes.names[i], static_cast<double>(totals.class_targets[i]) / static_cast<double>(totals.targets),
           totals.class_nll[i] / totals.nll, mean(totals.class_nll[i], totals.class_targets[i])});
  const std::vector<InnerLossRecorder::Curves> curves = recorder.curves(0);
  for (std::size_t i = 0; i < result.layers.size(); ++i) {
    DiagnosedLayer& layer = result.layers[i];
    layer.l0 = curves[i].l0;
    layer.lprev = curves[i].lprev;
    layer.lafter = curves[i].lafter;
    const Totals::Movement& movement = totals.movement[layer.layer];
    layer.movement_start = mean(movement.start, totals.streams);
    layer.movement_end = mean(movement.end, totals.streams);
    if (movement.gap_known) layer.carry_gap = movement.gap;
    layer.kl_without = mean(totals.kl_of_layer[layer.layer], totals.positions);
  }
  return result;
}

}  // namespace tenfold
