#include "runner/commands/status_cluster.h"

#include <vector>

#include "db/cluster_jobs.h"
#include "runner/cluster_queue.h"

namespace tenfold {
namespace {

constexpr int kMostJobs = 5;
constexpr std::size_t kMostTasks = 12;

std::string state_of(const QueuedJob& queued) {
  std::string text = queued.state;
  if (queued.state == "RUNNING") text += " on " + queued.nodes + ", " + queued.time_left + " left";
  if (queued.state == "PENDING" && !queued.reason.empty() && queued.reason != "None")
    text += " (" + queued.reason + ")";
  return text;
}

}  // namespace

std::string describe_cluster_jobs(const std::filesystem::path& db) {
  const std::vector<ClusterJobRow> rows = read_cluster_jobs(db, kMostJobs);
  if (rows.empty()) return "";
  std::vector<std::string> jobs;
  for (const ClusterJobRow& row : rows) jobs.push_back(row.job);
  std::string why;
  const auto queue = queue_of(jobs, why);
  std::string text;
  for (const ClusterJobRow& row : rows) {
    text += "job " + row.job + " (" + row.experiment + "): ";
    const auto found = queue ? queue->find(row.job) : decltype(queue->find(row.job)){};
    if (!queue)
      text += "submitted " + row.submitted_at + " from " + row.submitted_from + "; its state is unknown here: " + why;
    else if (found == queue->end() || found->second.empty())
      text += "no longer in the queue; submitted " + row.submitted_at;
    else if (row.array_tasks == 0)
      text += state_of(found->second.front());
    else
      text += std::to_string(row.array_tasks) + " tasks";
    text += "\n";
    if (!queue || found == queue->end() || row.array_tasks == 0) continue;
    for (std::size_t i = 0; i < found->second.size() && i < kMostTasks; ++i)
      text += "  task " + found->second[i].name + ": " + state_of(found->second[i]) + "\n";
    if (found->second.size() > kMostTasks)
      text += "  and " + std::to_string(found->second.size() - kMostTasks) + " more\n";
  }
  return text;
}

}  // namespace tenfold
