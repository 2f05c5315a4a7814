#include "datasets/dataset.h"
#include "experiments/spec.h"
#include "tests/fuzz/input_file.h"

// Sequences in files that libraries read.
namespace tenfold::fuzz {
namespace {

bool load(const char* kind, Input input) {
  static const InputFile file;
  file.write(input);
  DatasetSpec spec;
  spec.kind = kind;
  spec.path = file.path();
  return read_or_told(file.path(), [&] { load_dataset(spec); });
}

}  // namespace

bool hdf5(Input input) { return load("hdf5", input); }

bool mat(Input input) { return load("mat", input); }

}  // namespace tenfold::fuzz
