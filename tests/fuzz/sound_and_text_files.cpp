#include "datasets/dataset.h"
#include "datasets/loaders.h"
#include "datasets/log_mel.h"
#include "datasets/minimal_pairs.h"
#include "datasets/recording.h"
#include "experiments/spec.h"
#include "tests/fuzz/input_file.h"

namespace tenfold::fuzz {
namespace {

DatasetSpec spec_of(const std::string& kind, const std::string& path) {
  DatasetSpec spec;
  spec.kind = kind;
  spec.path = path;
  spec.sequence_length = 16;
  return spec;
}

bool load(const char* kind, Input input) {
  static const InputFile file;
  file.write(input);
  return read_or_told(file.path(), [&] { load_dataset(spec_of(kind, file.path())); });
}

}  // namespace

bool wav(Input input) {
  return read_or_told("a_b_0.wav", [&] {
    const std::vector<float> samples = read_recording(input, 8000, "a_b_0.wav");
    static const LogMel log_mel(8000, 8, 25, 10);
    std::vector<float> rows;
    log_mel.append(samples, 100, rows);
  });
}

bool tar(Input input) { return load("wav", input); }

bool text(Input input) { return load("text", input); }

bool tokens(Input input) {
  static const InputFile file;
  file.write(input);
  const bool some = read_or_told(file.path(), [&] { first_tokens(file.path(), 300, 8); });
  const bool all = read_or_told(file.path(), [&] { load_dataset(spec_of("tokens", file.path())); });
  return some || all;
}

bool sentencepiece(Input input) {
  static const InputFile file, sentence("to be or not to be, \xC3\xA9t\xC3\xA9\n");
  file.write(input);
  DatasetSpec spec = spec_of("text", sentence.path());
  spec.tokenizer = file.path();
  return read_or_told("fuzz-", [&] { load_dataset(spec); });
}

bool minimal_pairs(Input input) {
  static const InputFile file;
  file.write(input);
  Tokenizer bytes("");
  return read_or_told(file.path(), [&] { read_minimal_pairs(file.path(), &bytes, 256, {50, 200}); });
}

}  // namespace tenfold::fuzz
