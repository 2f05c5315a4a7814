#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "experiments/field_access.h"
#include "experiments/spec_access.h"
#include "tests/experiments/samples.h"

namespace tenfold::testing {
namespace {

// Fills every field with a random allowed value.
class Randomiser {
 public:
  explicit Randomiser(std::uint32_t seed) : random_(seed) {}
  template <Section S>
  void fill(S& section) {
    Fields<S>::visit([&](const Field& field, auto member) { set(field, section.*member); });
  }

 private:
  std::uint32_t below(std::uint32_t bound) { return random_() % bound; }
  template <class T>
  void set(const Field& field, T& value) {
    if constexpr (Section<T>) {
      fill(value);
    } else if constexpr (OptionalValue<T>) {
      value.reset();
      if (below(2) == 0) set(field, value.emplace());
    } else if constexpr (ListValue<T>) {
      value.clear();
      for (std::uint32_t i = 0; i < below(4); ++i) {
        typename T::value_type item{};
        set(field, item);
        if (std::find(value.begin(), value.end(), item) == value.end()) value.push_back(item);
      }
    } else if constexpr (std::is_same_v<T, std::string>) {
      static constexpr const char* kTexts[] = {"", "a", "null", "1e-3", "true", "x: [y]", "\"quoted\"\n", "Größe", "~"};
      value = field.allowed.empty()
                  ? kTexts[below(9)]
                  : std::string(field.allowed[below(static_cast<std::uint32_t>(field.allowed.size()))]);
    } else if constexpr (std::is_same_v<T, bool>) {
      value = below(2) == 0;
    } else if constexpr (std::is_same_v<T, double>) {
      const double low = std::max(field.minimum, -1e3), high = std::min(field.maximum, 1e3);
      value = low + (high - low) * (0.001 + 0.998 * below(1u << 30) / (1u << 30));
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
      value = std::uint64_t{random_()} << 32 | random_();
    } else {
      const double low = std::max(field.minimum, -1e6), high = std::min(field.maximum, 1e6);
      value = static_cast<T>(low) + static_cast<T>(below(static_cast<std::uint32_t>(high - low) + 1));
    }
  }
  std::mt19937 random_;
};

TEST(Specification, JsonRoundTripKeepsEveryField) {
  EXPECT_EQ(spec_from_json(to_json(ExperimentSpec{})), ExperimentSpec{});
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    ExperimentSpec spec;
    Randomiser(seed).fill(spec);
    const std::string text = to_json(spec).dump();
    EXPECT_EQ(spec_from_json(nlohmann::json::parse(text)), spec) << text;
  }
}

TEST(Specification, JsonRefusesWhatItDoesNotKnow) {
  const auto refused = [](const char* text) {
    try {
      spec_from_json(nlohmann::json::parse(text));
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_THAT(refused(R"({"trian": {}})"), ::testing::HasSubstr("unknown key \"trian\""));
  EXPECT_THAT(refused(R"({"train": {"epochs": "5"}})"), ::testing::HasSubstr("train.epochs wants a whole number"));
  EXPECT_THAT(refused(R"([])"), ::testing::HasSubstr("wants keys and values"));
  EXPECT_THAT(refused(R"({"sweep": {}})"), ::testing::HasSubstr("unknown key \"sweep\""));
  EXPECT_EQ(refused(R"({"train": {"epochs": 5}})"), "");
}

TEST(Specification, ValuesReadBackFromTheirOwnText) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    ExperimentSpec spec;
    Randomiser(seed).fill(spec);
    ExperimentSpec read;
    read.train.steps = 1;  // so that the order of the two counts shows
    read.train.steps.reset();
    Problems problems;
    const std::int32_t source = problems.add_source("test", false);
    for (const FieldInfo& field : experiment_fields()) {
      if (field.section) continue;
      if (field.key.starts_with("ttt.schedule.") && !spec.ttt.schedule) continue;
      set_field(read, field.key, parse_yaml(field_text(spec, field.key), source, problems), problems);
    }
    EXPECT_TRUE(problems.empty()) << problems.text();
    EXPECT_EQ(to_json(read).dump(1), to_json(spec).dump(1));
  }
}

TEST(Specification, ShortForms) {
  const ExperimentSpec spec = parsed(
                                  "dataset: {kind: digits, shift: contrast}\n"
                                  "folds: {kind: kfold, validation: 0.1}\n"
                                  "train: {schedule: cosine, optimizer: sgd, clip_norm: none, early_stopping: 4}\n"
                                  "ttt: {method: tent, query_size: all, parameters: \"layers:[0,-1]\", clip_norm: none,"
                                  " schedule: constant}\n"
                                  "metrics: accuracy\n"
                                  "resources:\n")
                                  .base();
  EXPECT_EQ(spec.dataset.shift.kind, "contrast");
  EXPECT_EQ(spec.train.schedule.kind, "cosine");
  EXPECT_EQ(spec.train.optimizer.kind, "sgd");
  EXPECT_FALSE(spec.train.clip_norm.has_value());
  EXPECT_EQ(spec.train.early_stopping.patience, 4);
  EXPECT_EQ(spec.ttt.query_size, 0);
  EXPECT_EQ(spec.ttt.clip_norm, 0.0);
  EXPECT_EQ(spec.ttt.parameters->at(0), "layers:[0,-1]");
  EXPECT_EQ(spec.metrics, std::vector<std::string>{"accuracy"});
}

TEST(Specification, DataFilesAreFoundBesideTheExperimentFile) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("tenfold-beside-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder / "data");
  std::ofstream(folder / "data/a.csv") << "x,y\n";
  std::ofstream(folder / "x.yaml") << "dataset: {kind: csv, path: data/a.csv, label_column: y}\n"
                                      "sweep: {dataset.path: [data/a.csv, data/none.csv]}\n";
  const Experiment experiment = Experiment::load(folder / "x.yaml");
  EXPECT_EQ(experiment.resolve(0).dataset.path, (folder / "data/a.csv").string());
  EXPECT_EQ(experiment.base().dataset.path, (folder / "data/a.csv").string());
  EXPECT_EQ(experiment.resolve(1).dataset.path, "data/none.csv");  // nowhere: named as it was written
  // What is there under the name as written is taken: here this file itself, by an absolute path.
  const std::string absolute = (folder / "x.yaml").string();
  EXPECT_EQ(Experiment::load(folder / "x.yaml", {"sweep=null", "dataset.path=" + absolute}).base().dataset.path,
            absolute);
  std::filesystem::remove_all(folder);
}

TEST(Specification, MethodDefaultsAreIdempotent) {
  for (const std::string_view method : names::methods) {
    ExperimentSpec once;
    once.ttt.method = method;
    resolve_method_defaults(once);
    ExperimentSpec twice = once;
    resolve_method_defaults(twice);
    EXPECT_EQ(once, twice) << method;
  }
}

TEST(Specification, NumbersHaveOneText) {
  EXPECT_EQ(number_text(1e-3), "0.001");
  EXPECT_EQ(number_text(3e-5), "3e-05");
  EXPECT_EQ(number_text(1e-4), "0.0001");
  EXPECT_EQ(number_text(-0.0), "0");
  EXPECT_EQ(number_text(750), "750");
  EXPECT_EQ(number_text(1e16), "1e+16");
  EXPECT_EQ(number_text(0.1 + 0.2), "0.30000000000000004");
  std::mt19937_64 random(1);
  for (int i = 0; i < 10000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(std::strtod(number_text(value).c_str(), nullptr), value);
  }
}

}  // namespace
}  // namespace tenfold::testing
