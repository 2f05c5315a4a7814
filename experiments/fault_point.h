#pragma once

#include <cstdint>
#include <span>
#include <string_view>

// Faults on purpose, for tests of what survives them:
//   TENFOLD_FAULT=<action>@<point>:<n>[,only=<unit>][,stage=fit|adapt][,once=<file>]
// Points stand where a death hurts most: in the trainer, around files that are written aside and renamed, around the
// store's commits and where arrays are handed out (trainer/README.md lists them). Unset, a point costs one read of an
// atomic.
namespace tenfold {

// Does what TENFOLD_FAULT asks for when this is its point and `n` its number. Throws Error(internal) for `throw`.
void fault_point(std::string_view point, std::int64_t n);

// A point that counts how often this process has come by, from 1.
void fault_point(std::string_view point);

// Reads TENFOLD_FAULT. Throws Error(config) when it is malformed.
void arm_faults_from_environment();

// Which stage (fit, adapt) and units the next points belong to; called by a trainer's session at the start of a job.
void set_fault_scope(std::string_view stage, std::span<const std::int64_t> units);

}  // namespace tenfold
