#pragma once

#include <string_view>

namespace tenfold {

// Names as people count: runs of digits by their value, so trial_2 comes before trial_10. A total order: names that
// differ only in leading zeros are ordered as texts.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace tenfold
