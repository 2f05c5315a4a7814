#include "datasets/dataset.h"
#include "datasets/loaders.h"
#include "experiments/spec.h"
#include "tests/fuzz/input_file.h"
#include "tests/fuzz/reader_apart.h"

// Sequences in files that libraries read, which some files break.
namespace tenfold::fuzz {
namespace {

// Where a library breaks, the product must say so; else what is read apart is what the product reads.
class SequenceFile {
 public:
  SequenceFile(const char* kind, Dataset::Parts (*load)(const DatasetSpec&))
      : reader_([this, load] { return read_or_told(file_.path(), [&] { const Dataset whole(load(spec_)); }); }) {
    spec_.kind = kind;
    spec_.path = file_.path();
  }

  bool read(Input input) {
    file_.write(input);
    const ReaderApart::Result result = reader_.read();
    if (result != ReaderApart::Result::broken) return result == ReaderApart::Result::read;
    return reader_.told(input, [&] { return read_or_told(file_.path(), [&] { load_dataset(spec_); }); });
  }

 private:
  InputFile file_;
  DatasetSpec spec_;
  ReaderApart reader_;
};

}  // namespace

bool hdf5(Input input) {
  static SequenceFile file("hdf5", load_hdf5);
  return file.read(input);
}

bool mat(Input input) {
  static SequenceFile file("mat", load_mat);
  return file.read(input);
}

}  // namespace tenfold::fuzz
