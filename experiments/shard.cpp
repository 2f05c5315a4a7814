#include "experiments/shard.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <unordered_map>

#include "experiments/error.h"
#include "experiments/problems.h"

namespace tenfold {
namespace {

constexpr int kMostShards = 100000;

bool read_number(std::string_view text, int& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 1 && number <= kMostShards;
}

}  // namespace

Shard parse_shard(std::string_view text) {
  Shard shard;
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || !read_number(text.substr(0, slash), shard.index) ||
      !read_number(text.substr(slash + 1), shard.count) || shard.index > shard.count)
    throw Error(ErrorKind::config, "a shard is INDEX/COUNT with 1 <= INDEX <= COUNT, such as 3/8, not " + quote(text));
  return shard;
}

std::string to_string(const Shard& shard) { return std::to_string(shard.index) + "/" + std::to_string(shard.count); }

std::filesystem::path shard_store(const std::filesystem::path& db, const Shard& shard) {
  if (shard.is_all()) return db;
  std::filesystem::path name = db.stem();
  name += ".shard-" + std::to_string(shard.index) + "-of-" + std::to_string(shard.count);
  name += db.extension();
  return db.parent_path() / name;
}

Plan take_shard(Plan plan, const Shard& shard) {
  if (shard.is_all()) return plan;
  std::vector<std::size_t> order(plan.fits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return plan.fits[a].identity < plan.fits[b].identity; });
  std::vector<bool> ours(plan.fits.size(), false);
  for (std::size_t i = static_cast<std::size_t>(shard.index - 1); i < order.size();
       i += static_cast<std::size_t>(shard.count))
    ours[order[i]] = true;

  std::vector<std::int32_t> number(plan.fits.size(), -1);
  std::vector<FitUnit> fits;
  for (std::size_t f = 0; f < plan.fits.size(); ++f) {
    if (!ours[f]) continue;
    number[f] = static_cast<std::int32_t>(fits.size());
    fits.push_back(plan.fits[f]);
  }
  std::erase_if(plan.trials, [&](const TrialUnit& trial) { return !ours[static_cast<std::size_t>(trial.fit)]; });
  for (TrialUnit& trial : plan.trials) trial.fit = number[static_cast<std::size_t>(trial.fit)];
  plan.fits = std::move(fits);
  return plan;
}

std::vector<std::string> configuration_identities(std::size_t configurations, const Plan& plan) {
  std::vector<std::string> identities(configurations);
  for (const TrialUnit& trial : plan.trials)
    if (std::string& identity = identities[static_cast<std::size_t>(trial.configuration)]; identity.empty())
      identity = trial.identity.hex();
  std::unordered_map<std::string, int> seen;
  for (std::string& identity : identities)
    if (const int count = ++seen[identity]; count > 1) identity.append(1, '#').append(std::to_string(count));
  return identities;
}

}  // namespace tenfold
