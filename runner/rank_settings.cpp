#include "runner/rank_settings.h"

#include <cstdlib>

#include <nlohmann/json.hpp>

#include "experiments/error.h"

namespace tenfold {

std::string encode(const RankOptions& options) {
  return nlohmann::json{{"experiment_file", options.run.experiment_file.string()},
                        {"overrides", options.run.overrides},
                        {"db", options.run.db.string()},
                        {"device", options.run.device},
                        {"share_fits", options.run.share_fits},
                        {"quiet", options.run.quiet},
                        {"empty_trials", options.run.empty_trials},
                        {"slots", options.slots},
                        {"gpu", options.gpu},
                        {"share_gpus", options.share_gpus},
                        {"front_socket", options.front_socket.string()}}
      .dump();
}

RankOptions decode_rank_options(const std::string& text) {
  try {
    const auto json = nlohmann::json::parse(text);
    RankOptions options;
    options.run.experiment_file = json.at("experiment_file").get<std::string>();
    options.run.overrides = json.at("overrides").get<std::vector<std::string>>();
    options.run.db = json.at("db").get<std::string>();
    options.run.device = json.at("device").get<std::string>();
    options.run.share_fits = json.at("share_fits").get<bool>();
    options.run.quiet = json.at("quiet").get<bool>();
    options.run.empty_trials = json.at("empty_trials").get<bool>();
    options.slots = json.at("slots").get<int>();
    options.gpu = json.at("gpu").get<bool>();
    options.share_gpus = json.at("share_gpus").get<bool>();
    options.front_socket = json.at("front_socket").get<std::string>();
    return options;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::internal,
                std::string("a rank was started with arguments that it cannot read: ") + error.what());
  }
}

double seconds_from_environment(const char* name, double otherwise) {
  const char* text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  constexpr double kMost_s = 1e9;  // a clock can still be moved by it
  if (*end != '\0' || !(value > 0 && value <= kMost_s))
    throw Error(ErrorKind::config,
                std::string(name) + "=" + text + " is not a positive number of seconds, at most 1e9");
  return value;
}

double peer_silence_s() { return seconds_from_environment("TENFOLD_PEER_SILENCE_S", 20); }

std::filesystem::path log_folder(const std::filesystem::path& db) { return db.string() + ".logs"; }

bool in_foreign_mpi_world() { return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMIX_RANK"); }

}  // namespace tenfold
