#include "db/csv_file.h"
#include "db/ttt_recordings.h"
#include "tests/fuzz/input_file.h"
#include "trainer/published_config.h"

// What comes from other programs beside data: losses recorded elsewhere, the config.json of a published model.
namespace tenfold::fuzz {

bool import_steps(Input input) {
  static const InputFile file;
  file.write(input);
  return read_or_told(file.path(), [&] {
    CsvFile lines(file.path());
    TttRecordings read = read_ttt_recordings(lines);
    for (auto& [label, recording] : read.configurations) flag_unexplained(label, recording);
  });
}

bool published(Input input) {
  static const InputFile file;
  file.write(input);
  return read_or_told(file.path(), [&] { read_published_config_file(file.path()); });
}

}  // namespace tenfold::fuzz
