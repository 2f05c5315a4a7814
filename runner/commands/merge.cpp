#include "runner/commands/merge.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <ostream>
#include <set>
#include <string>

#include "db/merge.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"

namespace tenfold {
namespace {

constexpr std::size_t kMostNotes = 10;

// From their names: which parts of a whole were not given.
std::string missing_parts(const std::vector<std::filesystem::path>& shards) {
  std::map<std::string, std::pair<int, std::set<int>>> wholes;  // name -> count, parts given
  for (const std::filesystem::path& shard : shards) {
    const std::string name = shard.filename().string();
    const auto at = name.find(".shard-");
    const auto of = name.find("-of-", at);
    if (at == std::string::npos || of == std::string::npos) continue;
    int index = 0, count = 0;
    std::from_chars(name.data() + at + 7, name.data() + of, index);
    std::from_chars(name.data() + of + 4, name.data() + name.size(), count);
    if (index < 1 || count < index || count > 100000) continue;
    auto& whole = wholes[name.substr(0, at) + " of " + std::to_string(count)];
    whole.first = count;
    whole.second.insert(index);
  }
  std::string text;
  for (const auto& [name, whole] : wholes) {
    std::string missing;
    for (int i = 1; i <= whole.first; ++i)
      if (!whole.second.contains(i)) missing += (missing.empty() ? "" : ", ") + std::to_string(i);
    if (!missing.empty()) text += "not among them: shards " + missing + " of " + std::to_string(whole.first) + '\n';
  }
  return text;
}

}  // namespace

int merge_command(const MergeOptions& options, std::ostream& out) {
  arm_faults_from_environment();
  std::vector<std::filesystem::path> shards;
  for (const std::filesystem::path& shard : options.shards)
    if (std::find(shards.begin(), shards.end(), shard) == shards.end()) shards.push_back(shard);
  const MergeSummary summary = merge_stores(options.out, shards);
  out << options.out.string() << ": " << summary.trials_taken << " trials and " << summary.fits_taken
      << " fits taken from " << shards.size() << (shards.size() == 1 ? " store" : " stores");
  if (summary.trials_known > 0) out << ", " << summary.trials_known << " trials were there already, equal";
  out << '\n' << missing_parts(shards);
  for (std::size_t i = 0; i < std::min(summary.notes.size(), kMostNotes); ++i) out << summary.notes[i] << '\n';
  if (summary.notes.size() > kMostNotes)
    out << "and " << summary.notes.size() - kMostNotes
        << " more: tenfold query \"SELECT kind, detail FROM event\" --db " << options.out.string() << '\n';
  out << summary.trials_done << " trials done";
  if (summary.trials_failed > 0) out << ", " << summary.trials_failed << " failed";
  if (summary.trials_open > 0)
    out << ", " << summary.trials_open
        << " open: run their shards to the end and merge again, or tenfold run EXPERIMENT --db "
        << options.out.string();
  out << '\n';
  return summary.trials_failed + summary.trials_open == 0 ? kExitDone : kExitSomeTrialsFailed;
}

}  // namespace tenfold
