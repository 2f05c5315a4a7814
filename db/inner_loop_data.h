#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "db/inner_loop_diagnosis.h"

namespace tenfold {

// What a diagnosis looks at: one model and the loss curves of its layers, of one trial or averaged over folds.
struct InnerLoopSubject {
  std::string name;                    // the configuration's label, or the trial
  std::vector<std::string> sentences;  // where the numbers are from
  InnerLoopModel model;
  std::vector<InnerLoopLayer> layers;
};

struct InnerLoopSelection {
  std::string name;                   // an experiment, or experiment/label
  std::optional<std::int64_t> trial;  // one trial of it; else every configuration, averaged over its done trials
  std::optional<std::int64_t> step;   // recorded at this step; else the last
};

// What the store has recorded. Throws Error(config) for names that it does not have, models without TTT layers, and a
// step at which nothing was recorded.
std::vector<InnerLoopSubject> load_inner_loops(const std::filesystem::path& db, const InnerLoopSelection& selection);

// Whether a trial, or its fit, recorded inner losses at this step.
bool inner_losses_recorded(const std::filesystem::path& db, std::int64_t trial, std::int64_t step);

// A saved model that can be run once more: where it is, and what it is made of.
struct SavedModel {
  std::filesystem::path checkpoint;  // absolute
  std::int64_t array_index = 0;
  std::int64_t step = 0;
  bool of_fit = true;         // trained parameters; else those of a trial, in the middle of adaptation
  std::string configuration;  // ExperimentSpec as JSON text
  std::string fingerprint;    // of the dataset, hex
  std::vector<std::int64_t> sample_shape;
  std::int64_t classes = 0;
  std::int32_t repeat = 0, fold = 0;
  std::string name;  // for people
};

// A trial's checkpoint at a step (the newest without one). Throws Error(config) naming the steps that there are.
SavedModel saved_model_of_trial(const std::filesystem::path& db, const std::string& name, std::int64_t trial,
                                std::optional<std::int64_t> step);

// The store's checkpoint in `file`, which lies in <db>.checkpoints; nothing when no store is beside it or none of its
// rows names the file. `array_index`: which member; needed where the file holds several.
std::optional<SavedModel> saved_model_of_file(const std::filesystem::path& file,
                                              std::optional<std::int64_t> array_index);

// From a configuration's JSON: what the diagnosis must know of the model. Layers get what is common to them.
InnerLoopModel inner_loop_model(const std::string& specification);
InnerLoopLayer inner_loop_layer(const std::string& specification);

}  // namespace tenfold
