#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/spec.h"

namespace tenfold {

// A key that only some kinds read: given with another kind it would do nothing, and its author would not know.
struct KindBoundKey {
  std::string_view key;
  std::string_view kind_key;                      // the key that decides
  std::vector<std::string_view> kinds;            // its values that read `key`
  std::string (*kind_of)(const ExperimentSpec&);  // the value of kind_key
};

std::span<const KindBoundKey> kind_bound_keys();

}  // namespace tenfold
