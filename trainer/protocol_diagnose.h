#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

// `tenfold-trainer --diagnose JOB.json --parent-pid PID`: one process that runs one stream through a saved model,
// records what its inner loops did and ends. `tenfold diagnose` writes the job file, waits, and reads the result file.
// The process exits with the code of its Error's kind and says the Error's words on its standard error
// ("tenfold-trainer: KIND: words"); a result file is written aside and renamed, so that it is whole or not there.
namespace tenfold {

struct DiagnoseJob {
  // Absolute: one of our stacked .safetensors files (then `configuration` is set), or a published checkpoint: its
  // .safetensors file, or its folder with config.json.
  std::string checkpoint;
  std::int64_t array_index = 0;  // ours: the member of the stacked file
  std::string configuration;     // ours: the ExperimentSpec as JSON text (experiment.h to_json); empty: published
  std::vector<std::int64_t> sample_shape;  // ours: as the model was made; of sequences one step's, of tokens (1)
  std::int64_t classes = 0;                // ours: as the model was made; of tokens the vocabulary
  // Absolute: what runs through the model. For language models a UTF-8 text, or .npy tokens; for sequence models a
  // .npy or .npz of (T, features). Empty: the held-out samples of `fold`, from the dataset's cache.
  std::string input;
  std::string tokenizer;    // a SentencePiece model for text; empty: bytes, or what the configuration names
  std::string fingerprint;  // without input: of the dataset, hex, and where its cache is
  std::string cache_folder;
  std::int32_t repeat = 0;
  std::int32_t fold = 0;
  std::int64_t max_positions = 2048;  // positions recorded; a longer stream is cut there
  std::string device = "cpu";         // cpu or cuda:N
  std::string output;                 // absolute: the result file
  bool operator==(const DiagnoseJob&) const = default;
};

// What could not be measured is NaN, null in JSON.
struct DiagnosedLayer {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::int32_t layer = 0;
  std::string kind;                           // linear, mlp or ttt_rnn
  bool weights_found = true;                  // the checkpoint holds this layer's parameters
  std::vector<double> l0, lprev, lafter;      // by position, from 0: means over streams, heads and features
  double gate_mean_abs = kNone;               // mean |tanh(alpha)| over channels; NaN: the layer has no gate
  double gate_min = kNone, gate_max = kNone;  // of tanh(alpha)
  double movement_start = kNone;  // |W_t - W_0|, Frobenius norm over all fast weights of the layer, mean over streams:
  double movement_end = kNone;    // after the first mini-batch, and at the end of the stream
  // The stream is run a second time in calls of a few mini-batches. Largest |W entering a call - W after the call
  // before|, relative to |W_0|: 0 where the state is carried.
  double carry_gap = kNone;
  bool carried = true;  // the layer is made to carry its state: persistent, and no TTT-RNN with reset fast weights
  bool reset_each_step = false;  // a TTT-RNN whose fast weights start anew at each time step
  std::int64_t mini_batch_size = 1;
  double kl_without =
      kNone;  // mean over positions of KL(logits with all layers || logits with this one bypassed), nats
};

// The targets of one kind of text (datasets/token_classes.h).
struct DiagnosedTokens {
  std::string name;
  double share = 0;       // of the targets
  double loss_share = 0;  // of the sum of their losses
  double loss = 0;        // mean, nats
  bool operator==(const DiagnosedTokens&) const = default;
};

struct DiagnosedModel {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::string kind;
  std::int64_t layers = 0;         // of the model
  std::int64_t stream_length = 0;  // positions of the longest stream
  std::int64_t streams = 0;
  double nll = kNone;  // per position, nats; NaN: nothing to predict
  // With all TTT layers bypassed; a ttt_rnn, whose layers cannot be, with an inner rate of 0. The KL likewise.
  double nll_without_ttt = kNone;
  double kl_without_ttt = kNone;               // KL(logits with them || logits without them), nats per position
  std::vector<double> position_loss;           // cross entropy by position, nats
  std::vector<double> codebook_shares;         // of the weighted loss; sums to 1; empty: one token stream
  std::vector<DiagnosedTokens> token_classes;  // that occur; empty: what tokens stand for is not known
  std::vector<std::string> missing;            // names of TTT parameters that the checkpoint does not hold
};

struct DiagnoseResult {
  std::vector<DiagnosedLayer> layers;
  DiagnosedModel model;
};

// Decoding throws Error(communication) on anything malformed: fields missing, curves of one layer that differ in
// length.
std::string encode(const DiagnoseJob& job);
std::string encode(const DiagnoseResult& result);
DiagnoseJob decode_diagnose_job(std::string_view json);
DiagnoseResult decode_diagnose_result(std::string_view json);

}  // namespace tenfold
