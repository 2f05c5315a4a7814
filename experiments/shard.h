#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plan.h"

namespace tenfold {

// The part of an experiment that one of several jobs computes, with a store of its own.
struct Shard {
  int index = 1;  // from 1
  int count = 1;  // 1: everything
  bool is_all() const { return count == 1; }
};

Shard parse_shard(std::string_view text);  // "3/8"; throws Error(config)
std::string to_string(const Shard& shard);

// results.db -> results.shard-3-of-8.db; `db` itself for the whole.
std::filesystem::path shard_store(const std::filesystem::path& db, const Shard& shard);

// Its fits, and their trials. Fits are dealt out in the order of their identities, so that every job finds the same
// part whatever machine it runs on, and parts differ by one fit at most. A changed file deals anew.
Plan take_shard(Plan plan, const Shard& shard);

// What a store knows each configuration by: its first trial, whose identity covers everything that its results depend
// on. Of the whole plan: a shard may lack that trial. Two points of a sweep that resolve to the same values get
// numbers.
std::vector<std::string> configuration_identities(std::size_t configurations, const Plan& plan);

}  // namespace tenfold
