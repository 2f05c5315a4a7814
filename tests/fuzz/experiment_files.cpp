#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "experiments/experiment.h"
#include "tests/fuzz/input_file.h"

// What a person writes, and the JSON of it that trainers are given.
namespace tenfold::fuzz {

bool experiment(Input input) {
  const std::string_view text = text_of(input);
  const bool written = read_or_told("x.yaml",
                                    [&] {
                                      const Experiment read = Experiment::parse(std::string(text), "x.yaml");
                                      if (read.configurations().empty())
                                        throw std::logic_error("an experiment of no configuration");
                                      const ExperimentSpec spec = read.resolve(read.configurations().size() - 1);
                                      if (spec_from_json(nlohmann::json::parse(to_json(spec).dump())) != spec)
                                        throw std::logic_error("a specification that its JSON does not give back");
                                    },
                                    {ErrorKind::config});
  if (!text.starts_with('{')) return written;
  const bool told =
      read_or_told("", [&] { spec_from_json(nlohmann::json::parse(text, nullptr, false)); }, {ErrorKind::config});
  return written || told;
}

}  // namespace tenfold::fuzz
