#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "db/store.h"
#include "experiments/experiment.h"
#include "experiments/plan.h"

namespace tenfold {

class Connection;

// By which the store knows each configuration of a plan.
std::vector<std::string> configuration_identities(const Experiment& experiment, const Plan& plan);

// Why a plan asks for other trials than the store's revision of the experiment. Hidden, where configurations are the
// same as before: other data under the same name, or a program that computes otherwise; else it is the file.
std::vector<PlanChange> plan_changes(Connection& connection, std::int64_t experiment, std::int64_t revision,
                                     const Experiment& file, const Plan& plan,
                                     const std::vector<std::string>& identities);

}  // namespace tenfold
