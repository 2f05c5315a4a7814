#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "trainer/protocol.h"

// Faults on purpose, for tests of what survives them:
// TENFOLD_FAULT=<action>@<point>:<n>[,only=<unit>][,stage=fit|adapt]
// [,once=<file>] (trainer/README.md). Unset, a point costs one read of an atomic.
namespace tenfold {

// Does what TENFOLD_FAULT asks for at the n-th `point` of a job that matches. Throws Error(internal) for `throw`.
void fault_point(std::string_view point, std::int64_t n);

// Reads TENFOLD_FAULT. Throws Error(config) when it is malformed.
void arm_faults_from_environment();

// Which units the next points belong to; called by the session at the start of a job.
void set_fault_scope(Stage stage, std::span<const JobMember> members);

}  // namespace tenfold
