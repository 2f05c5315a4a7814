#include "db/cluster_jobs.h"

#include "db/reader.h"
#include "db/store.h"
#include "db/store_impl.h"

namespace tenfold {

void Store::add_cluster_job(const ClusterJobRow& row) {
  impl_->require_transaction("add_cluster_job");
  Statement insert(impl_->connection,
                   "INSERT INTO cluster_job(job, experiment, script, submitted_at, submitted_from, nodes, "
                   "gpus_per_node, slots, array_tasks, time_limit, queue, account, launcher) "
                   "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
  const auto bind_text = [&](int index, const std::string& text) {
    if (text.empty())
      insert.bind_null(index);
    else
      insert.bind(index, text);
  };
  insert.bind(1, row.job).bind(2, row.experiment).bind(3, row.script).bind(4, impl_->now).bind(5, row.submitted_from);
  insert.bind(6, row.nodes).bind(7, row.gpus_per_node).bind(8, row.slots);
  insert.bind(9, row.array_tasks > 0 ? std::optional(row.array_tasks) : std::nullopt);
  bind_text(10, row.time_limit);
  bind_text(11, row.partition);
  bind_text(12, row.account);
  insert.bind(13, row.launcher).run();
}

std::vector<ClusterJobRow> read_cluster_jobs(const std::filesystem::path& db, int most) {
  Reader reader = Reader::open(db);
  Connection& connection = reader.connection();
  std::vector<ClusterJobRow> rows;
  if (connection.integer("SELECT count(*) FROM sqlite_schema WHERE name = 'cluster_job'") == 0) return rows;
  Statement select(connection,
                   "SELECT job, experiment, script, submitted_at, submitted_from, nodes, gpus_per_node, slots, "
                   "array_tasks, time_limit, queue, account, launcher FROM cluster_job ORDER BY id DESC LIMIT ?1");
  select.bind(1, std::int64_t{most});
  while (select.next()) {
    ClusterJobRow row;
    row.job = select.text(0);
    row.experiment = select.text(1);
    row.script = select.text(2);
    row.submitted_at = select.text(3);
    row.submitted_from = select.text(4);
    row.nodes = select.integer(5);
    row.gpus_per_node = select.integer(6);
    row.slots = select.integer(7);
    row.array_tasks = select.integer(8);
    row.time_limit = select.text(9);
    row.partition = select.text(10);
    row.account = select.text(11);
    row.launcher = select.text(12);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace tenfold
