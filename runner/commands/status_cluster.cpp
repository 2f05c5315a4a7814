#include "runner/commands/status_cluster.h"

#include <nlohmann/json.hpp>

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

// What the queue has of a job: nothing where it is over, or cannot be asked.
std::vector<QueuedJob> queued_of(const ClusterStatus& status, const std::string& job) {
  if (!status.queue) return {};
  const auto found = status.queue->find(job);
  return found == status.queue->end() ? std::vector<QueuedJob>{} : found->second;
}

}  // namespace

ClusterStatus look_at_cluster(const std::filesystem::path& db) {
  ClusterStatus status;
  status.jobs = read_cluster_jobs(db, kMostJobs);
  std::vector<std::string> numbers;
  for (const ClusterJobRow& row : status.jobs) numbers.push_back(row.job);
  if (!numbers.empty()) status.queue = queue_of(numbers, status.why);
  return status;
}

std::string to_text(const ClusterStatus& status) {
  std::string text;
  for (const ClusterJobRow& row : status.jobs) {
    text += "job " + row.job + " (" + row.experiment + "): ";
    const std::vector<QueuedJob> queued = queued_of(status, row.job);
    if (!status.queue)
      text += "submitted " + row.submitted_at + " from " + row.submitted_from +
              "; its state is unknown here: " + status.why;
    else if (queued.empty())
      text += "no longer in the queue; submitted " + row.submitted_at;
    else if (row.array_tasks == 0)
      text += state_of(queued.front());
    else
      text += std::to_string(row.array_tasks) + " tasks";
    text += "\n";
    if (row.array_tasks == 0) continue;
    for (std::size_t i = 0; i < queued.size() && i < kMostTasks; ++i)
      text += "  task " + queued[i].name + ": " + state_of(queued[i]) + "\n";
    if (queued.size() > kMostTasks) text += "  and " + std::to_string(queued.size() - kMostTasks) + " more\n";
  }
  return text;
}

nlohmann::json to_json(const ClusterStatus& status, const std::string& experiment) {
  nlohmann::json list = nlohmann::json::array();
  for (const ClusterJobRow& row : status.jobs) {
    if (row.experiment != experiment) continue;
    nlohmann::json tasks = nlohmann::json::array();
    for (const QueuedJob& task : queued_of(status, row.job))
      tasks.push_back({{"name", task.name},
                       {"state", task.state},
                       {"nodes", task.nodes},
                       {"time_left", task.time_left},
                       {"reason", task.reason}});
    nlohmann::json job = {{"job", row.job},
                          {"submitted_at", row.submitted_at},
                          {"submitted_from", row.submitted_from},
                          {"script", row.script},
                          {"nodes", row.nodes},
                          {"slots", row.slots},
                          {"array_tasks", row.array_tasks > 0 ? nlohmann::json(row.array_tasks) : nlohmann::json()},
                          {"in_queue", status.queue ? nlohmann::json(!tasks.empty()) : nlohmann::json()}};
    if (!status.queue) job["unknown_because"] = status.why;
    job["tasks"] = std::move(tasks);
    list.push_back(std::move(job));
  }
  return list;
}

}  // namespace tenfold
