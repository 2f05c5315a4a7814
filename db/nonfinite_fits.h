#pragma once

#include <string>
#include <unordered_set>

#include "db/sqlite.h"
#include "experiments/hash.h"
#include "experiments/spec.h"

namespace tenfold {

// Fits are shared by all experiments of a store, whatever their on_nonfinite; but one that was stopped, or went on at a
// lower rate, by the policy of one experiment is not what another asks for. That one gets a fit of its own.
class NonFiniteFits {
 public:
  NonFiniteFits(Connection& db, const NonFiniteSpec& policy);
  // By which the store has, or will have, this fit under the policy.
  std::string identity_of(const Digest& fit) const;

 private:
  NonFiniteSpec policy_;
  std::unordered_set<std::string> apart_;  // identities that went another way
};

}  // namespace tenfold
