#pragma once

#include <string>

namespace tenfold {

// 16 hexadecimal digits that nobody else has: other threads, hosts, and containers whose processes count alike may look
// for a name at the same moment, and a clock that is set back would give one out again.
std::string random_name();

}  // namespace tenfold
