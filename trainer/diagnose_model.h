#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "experiments/spec.h"
#include "trainer/fold_data.h"
#include "trainer/model.h"
#include "trainer/protocol_diagnose.h"

namespace tenfold {

// A saved model, ready to be run: one member.
struct DiagnosedSubject {
  ExperimentSpec spec;  // of a published checkpoint its model alone
  bool published = false;
  std::unique_ptr<Model> model;
  ModelState state;                  // (1, ...) on the device
  std::vector<std::string> missing;  // TTT parameters that the checkpoint does not hold: at their initial values
  std::vector<int> ttt_layers;       // ascending, as ParameterInfo::layer
  // The fold that it was trained for: where the job has no input, and for sequence models, whose inputs are normalised
  // as the training was; else null.
  std::shared_ptr<const FoldData> fold;
};

// Throws Error(config) for models without TTT layers, Error(data) for a checkpoint that is not of the model.
DiagnosedSubject load_subject(const DiagnoseJob& job, const at::Device& device);

// One entry for each TTT layer: what is known of it without running it.
std::vector<DiagnosedLayer> layers_of(const DiagnosedSubject& subject);

}  // namespace tenfold
