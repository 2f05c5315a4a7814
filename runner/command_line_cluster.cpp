#include "runner/command_line_cluster.h"

#include <iostream>
#include <memory>

#include "db/store_path.h"
#include "runner/commands/merge.h"
#include "runner/commands/submit.h"

namespace tenfold {
namespace {

void add_submit(CLI::App& app, Action& action) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = add_command(
      app, "submit", "Give an experiment to a SLURM cluster",
      "  tenfold submit my.yaml --nodes 4 --gpus-per-node 8 --time 12:00:00 --partition gpu\n"
      "  tenfold submit my.yaml --slots 16 --time 60 --array 8      8 jobs with a part each; then tenfold merge\n"
      "  tenfold submit my.yaml --gpus-per-node 1 --time 60 --dry-run\n\n"
      "The job stops before its time limit, puts itself back into the queue and goes on where it was. Modules,\n"
      "containers and further options of a site: ~/.config/tenfold/site.yaml, see slurm/README.md.");
  add_experiment_file(command, options->experiment_file, options->overrides);
  add_db(command, options->db);
  const auto count = [&](const char* flag, int& value, int least, const char* text) {
    command->add_option(flag, value, text)->type_name("N")->check(CLI::Range(least, 100000).description(""));
  };
  count("--nodes", options->nodes, 1, "Nodes (default: 1)");
  count("--gpus-per-node", options->gpus_per_node, 0, "GPUs of each node; a slot for each");
  count("--slots", options->slots, 1, "Arrays computed at a time, over all nodes (CPUs: a core for each)");
  command->add_option("--time", options->time, "Time limit: minutes, HH:MM:SS or D-HH:MM:SS (default: the partition's)")
      ->type_name("T");
  command->add_option("--partition", options->partition, "Where to run (default: the site's)")->type_name("P");
  command->add_option("--account", options->account, "Who pays (default: the site's)")->type_name("A");
  command->add_option("--launcher", options->launcher, "What starts the processes (default: mpirun, or the site's)")
      ->check(CLI::IsMember({"mpirun", "srun"}));
  count("--array", options->array, 1, "Jobs that compute a part each, with stores of their own");
  command->add_flag_callback(
      "--no-share", [options] { options->share_fits = false; }, "As for tenfold run");
  command->add_flag("--dry-run", options->dry_run, "Print the batch script and do nothing");
  command->callback([options, &action] { action = [options] { return submit_command(*options, std::cout); }; });
}

void add_merge(CLI::App& app, Action& action) {
  auto options = std::make_shared<MergeOptions>();
  CLI::App* command = add_command(app, "merge", "Bring the stores of shards together in one",
                                  "  tenfold merge results.db results.shard-*-of-8.db\n\n"
                                  "What is done is taken once, however often it is merged. Results that differ, other\n"
                                  "versions of the experiment and stores in use are refused. Exit code 1: trials are "
                                  "left over.");
  command->add_option("OUT", options->out, "The store that takes all; made when it does not exist")->required();
  command->add_option("SHARD", options->shards, "Stores of `tenfold run --shard I/N`")->required();
  command->parse_complete_callback([options] {
    options->out = store_path(options->out);
    for (std::filesystem::path& shard : options->shards) shard = store_path(shard);
  });
  command->callback([options, &action] { action = [options] { return merge_command(*options, std::cout); }; });
}

}  // namespace

void add_cluster_commands(CLI::App& app, Action& action) {
  add_submit(app, action);
  add_merge(app, action);
}

}  // namespace tenfold
