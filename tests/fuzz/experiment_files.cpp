#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "db/csv_file.h"
#include "db/ttt_recordings.h"
#include "experiments/experiment.h"
#include "tests/fuzz/input_file.h"
#include "trainer/published_config.h"

// What a person writes or brings: experiment files, losses recorded elsewhere, the config.json of a published model.
namespace tenfold::fuzz {

bool experiment(Input input) {
  return read_or_told(
      "x.yaml",
      [&] {
        const Experiment read = Experiment::parse(std::string(text_of(input)), "x.yaml");
        if (read.configurations().empty()) throw std::logic_error("an experiment of no configuration");
        const ExperimentSpec spec = read.resolve(read.configurations().size() - 1);
        if (spec_from_json(nlohmann::json::parse(to_json(spec).dump())) != spec)
          throw std::logic_error("a specification that its JSON does not give back");
      },
      {ErrorKind::config});
}

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
