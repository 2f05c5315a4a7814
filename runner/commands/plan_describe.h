#pragma once

#include <string>
#include <vector>

#include "experiments/plan.h"
#include "experiments/spec.h"
#include "trainer/model_layout.h"

// Parts of an experiment in a few words, for `tenfold plan`.
namespace tenfold {

std::string describe_model(const ModelSpec& model, const DatasetSummary& data);
std::string describe_data(const DatasetSpec& spec);
std::string describe_folds(const FoldSpec& folds, const DatasetSummary& data);
std::string describe_patterns(const TttSpec& ttt);

// Names of the selected parameters with * for numbers and how many each stands for: "layers.*.norm.weight (2)".
std::vector<std::string> names_by_pattern(const ModelLayout& layout, const std::vector<bool>& selected);

}  // namespace tenfold
