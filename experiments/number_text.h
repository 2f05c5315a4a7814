#pragma once

#include <string>

namespace tenfold {

// The shortest text that reads back as the same number, plain between 1e-4 and 1e16: 0.0001, 3e-05, 750. Equal
// numbers have equal texts, however the user wrote them.
std::string number_text(double value);

}  // namespace tenfold
