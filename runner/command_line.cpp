#include "runner/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "experiments/error.h"
#include "experiments/experiment.h"
#include "runner/command_line_cluster.h"
#include "runner/command_line_options.h"
#include "runner/commands/diagnose.h"
#include "runner/commands/import.h"
#include "runner/commands/plan.h"
#include "runner/commands/query.h"
#include "runner/commands/report.h"
#include "runner/commands/status.h"
#include "runner/doctor.h"
#include "runner/gpu_sharing.h"
#include "runner/host_agent.h"
#include "runner/job_time.h"
#include "runner/run.h"

#ifndef TENFOLD_VERSION
#error "runner/CMakeLists.txt defines TENFOLD_VERSION"
#endif

namespace tenfold {
namespace {

void add_run(CLI::App& app, Action& action) {
  auto options = std::make_shared<RunOptions>();
  CLI::App* command = add_command(
      app, "run", "Run an experiment, or go on with one that was stopped",
      "  tenfold run experiments/digits.yaml\n"
      "  tenfold run my.yaml --db results.db --slots 8\n"
      "  tenfold run my.yaml --set ttt.steps=10 --set train.epochs=5\n\n"
      "Ctrl-C stops at the next step and keeps everything; the same command goes on from there. Exit codes: 0 done,\n"
      "1 some trials failed, 2 a mistake in the file or the command, 75 stopped by SIGTERM, 130 stopped by Ctrl-C.");
  add_experiment_file(command, options->experiment_file, options->overrides);
  add_db(command, options->db, &options->shard);
  add_resources(command, options->slots, options->device);
  CLI::Option* hosts = command
                           ->add_option("--hosts", options->hosts,
                                        "Spread the run over hosts that ssh reaches, with their slots: a:4,b:4")
                           ->type_name("HOST:N,...");
  command->add_option("--hostfile", options->hostfile, "The same from a file in Open MPI's format: a slots=4")
      ->type_name("FILE")
      ->excludes(hosts);
  command->add_flag_callback(
      "--no-share", [options] { options->share_fits = false; },
      "Train every trial by itself, also where trials differ only in how they adapt");
  command->add_flag("--quiet", options->quiet, "No progress and no closing table");
  command->add_flag("--empty-trials", options->empty_trials, "Trials that compute nothing")->group("");
  auto time_limit_s = std::make_shared<double>(0);
  add_shard(command, options->shard,
            "Compute part I of N alone, into a store of its own (FILE.shard-I-of-N); see tenfold merge");
  command
      ->add_option("--time-limit", *time_limit_s,
                   "Be over in S seconds: nothing is started that cannot reach its first checkpoint by then")
      ->type_name("S")
      ->check(CLI::Range(0.001, 1e9).description(""));
  command->callback([options, time_limit_s, &action] {
    options->ends_at = job_end(*time_limit_s);
    action = [options] { return run_experiment(*options); };
  });
}

void add_plan(CLI::App& app, Action& action) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = add_command(app, "plan", "Show what a run would do, without doing it",
                                  "  tenfold plan experiments/digits.yaml\n"
                                  "  tenfold plan my.yaml --set folds.k=10 --json\n"
                                  "  tenfold plan my.yaml --shard 2/8");
  add_experiment_file(command, options->experiment_file, options->overrides);
  add_db(command, options->db, &options->shard);
  add_resources(command, options->slots, options->device);
  command->add_flag_callback(
      "--no-share", [options] { options->share_fits = false; }, "Plan one training for every trial");
  add_shard(command, options->shard, "Show which fits and trials are part I of N, and how far its own store is");
  add_format(command, options->format, {"text", "json"});
  command->add_flag_callback(
      "--json", [options] { options->format = "json"; }, "Short for --format json");
  command->callback([options, &action] { action = [options] { return plan_command(*options, std::cout); }; });
}

void add_status(CLI::App& app, Action& action) {
  auto options = std::make_shared<StatusOptions>();
  CLI::App* command = add_command(app, "status", "Show how far the experiments of a store are, also while they run",
                                  "  tenfold status\n"
                                  "  tenfold status digits --watch");
  command->add_option("NAME", options->experiment, "One experiment (default: all of the store)");
  add_db(command, options->db);
  command->add_flag("--watch", options->watch, "Show it again and again, until nothing runs any more");
  command->add_option("--interval", options->interval_s, "Seconds between two looks of --watch (default: 2)")
      ->type_name("S")
      ->check(CLI::Range(0.1, 3600.0).description(""));
  add_format(command, options->format, {"text", "json"});
  command->callback([options, &action] { action = [options] { return status_command(*options, std::cout); }; });
}

void add_query(CLI::App& app, Action& action) {
  auto options = std::make_shared<QueryOptions>();
  CLI::App* command =
      add_command(app, "query", "Answer one SQL statement from the store, read-only",
                  "  tenfold query \"SELECT * FROM leaderboard\"\n"
                  "  tenfold query \"SELECT label, step, total FROM ttt_step_mean\" --format csv > curve.csv\n"
                  "  tenfold query - < my.sql\n\n"
                  "Tables and views are described in db/SCHEMA.md. Any SQLite client can read the file as well.");
  command->add_option("SQL", options->sql, "The statement, or - to read it from standard input")->required();
  add_db(command, options->db);
  add_format(command, options->format, {"table", "csv", "json"});
  command->callback([options, &action] { action = [options] { return query_command(*options, std::cout); }; });
}

void add_report(CLI::App& app, Action& action) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = add_command(app, "report", "Analyse an experiment from the store",
                                  "  tenfold report digits --kind ttt-loss\n"
                                  "  tenfold report digits --interval 5 --format markdown --out digits.md\n"
                                  "  tenfold report batch32 --against batch64\n"
                                  "  tenfold report brain --kind experiment");
  command->add_option("NAME", options->experiment, "The experiment")->required();
  command->add_option("--kind", options->kind, "Which analysis (default: ttt-loss)")
      ->check(CLI::IsMember({"ttt-loss", "experiment"}));
  command->add_option("--against", options->against, "Compare with this configuration (its label) or experiment");
  command->add_option("--interval", options->interval, "Steps between two rows of a table (default: 10)")
      ->type_name("N")
      ->check(CLI::Range(1, 1000000).description(""));
  add_db(command, options->db);
  add_format(command, options->format, {"text", "markdown", "csv", "json"});
  command->add_option("--out", options->out_file, "Write to a file instead of standard output")->type_name("FILE");
  command->callback([options, &action] { action = [options] { return report_command(*options, std::cout); }; });
}

void add_diagnose(CLI::App& app, Action& action) {
  auto options = std::make_shared<DiagnoseOptions>();
  CLI::App* command = add_command(
      app, "diagnose", "Say whether the inner loop of TTT layers learns, and what is wrong where it does not",
      "  tenfold diagnose placement --out figures\n"
      "  tenfold diagnose placement --trial 12\n"
      "  tenfold diagnose placement --trial 12 --step 1000      an earlier checkpoint of it\n"
      "  tenfold diagnose --checkpoint DIR --input speech.txt --out figures\n\n"
      "Writes ttt_diagnostic_report.txt and the plots figure5_layerN.png and .svg. Exit code 1: the report is "
      "written,\n"
      "plots are missing.");
  command->add_option("NAME", options->experiment, "The experiment, or experiment/label");
  command->add_option("--trial", options->trial, "This trial (default: each configuration, averaged over its folds)")
      ->type_name("ID");
  command->add_option("--step", options->step, "What was recorded at this step, or the checkpoint kept of it")
      ->type_name("N");
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "Run a saved model instead: a file of a store's checkpoints, "
                   "or a published checkpoint's file or folder")
      ->type_name("PATH");
  command->add_option("--member", options->member, "Which member of a checkpoint file that holds several")
      ->type_name("N");
  command->add_option("--input", options->input, "The stream to run: text, tokens (.npy) or (T, features) (.npy, .npz)")
      ->type_name("FILE");
  command->add_option("--tokenizer", options->tokenizer, "A SentencePiece model for text (default: bytes)")
      ->type_name("FILE");
  command->add_option("--max-positions", options->max_positions, "Positions recorded of a saved model (default: 2048)")
      ->type_name("N")
      ->check(CLI::Range(1, 10000000).description(""));
  command->add_option("--device", options->device, "Where a saved model runs: cpu or cuda:N (default: cpu)");
  command->add_option("--out", options->out, "Folder for the report and the plots (default: diagnosis-NAME)")
      ->type_name("DIR");
  add_db(command, options->db);
  add_format(command, options->format, {"text", "markdown", "csv", "json"});
  command->callback(
      [options, &action] { action = [options] { return diagnose_command(*options, std::cout, std::cerr); }; });
}

void add_import(CLI::App& app, Action& action) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* command =
      add_command(app, "import", "Bring losses that were recorded elsewhere into the store",
                  "  tenfold import ttt-steps losses.csv --name reference\n\n"
                  "The CSV's columns: fold, step, total, entropy, diversity, and optionally configuration.");
  command->add_option("KIND", options->kind, "What the file holds")->required()->check(CLI::IsMember({"ttt-steps"}));
  command->add_option("FILE", options->file, "The CSV file")->required();
  command->add_option("--name", options->name, "Name of the experiment in the store")->required();
  add_db(command, options->db);
  command->add_flag("--quiet", options->quiet, "Say nothing when all is well");
  command->callback([options, &action] { action = [options] { return import_command(*options, std::cout); }; });
}

void add_schema(CLI::App& app, Action& action) {
  CLI::App* command = add_command(app, "schema", "Print the JSON Schema of experiment files, for editors",
                                  "  tenfold schema > tenfold.schema.json");
  command->callback([&action] {
    action = [] {
      std::cout << experiment_schema().dump(2) << '\n';
      return kExitDone;
    };
  });
}

void add_doctor(CLI::App& app, Action& action) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* command = add_command(app, "doctor", "Check this machine: what works, what is missing, what to do",
                                  "  tenfold doctor\n"
                                  "  tenfold doctor --gpu\n"
                                  "  tenfold doctor --db /scratch/me/results.db");
  add_db(command, options->db);
  add_format(command, options->format, {"text", "json"});
  command->add_flag("--gpu", options->measure_gpus, "Measure how fast NCCL sums over the GPUs of this machine");
  command->callback([options, &action] { action = [options] { return doctor_command(*options, std::cout); }; });
}

void add_version(CLI::App& app, Action& action) {
  CLI::App* command = add_command(app, "version", "Print the version", "  tenfold version");
  command->callback([&action] {
    action = [] {
      std::cout << "tenfold " TENFOLD_VERSION "\n";
      return kExitDone;
    };
  });
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

// A word in the command's place that is none.
void check_command(const CLI::App& app, const std::string& word) {
  if (word.empty() || word.front() == '-') return;
  std::vector<std::string> names = command_names(app);
  if (std::find(names.begin(), names.end(), word) != names.end()) return;
  names.insert(names.end(), {"setup", "test", "bench"});
  if (word == "setup" || word == "test" || word == "bench") {
    throw Error(ErrorKind::config,
                "'" + word + "' is a command of the launcher: call the script ./tenfold at the root of the sources");
  }
  const std::string suggestion = closest(word, names);
  throw Error(ErrorKind::config, "unknown command '" + word + "'" +
                                     (suggestion.empty() ? "" : "; did you mean '" + suggestion + "'?") +
                                     " (tenfold --help lists all)");
}

// CLI11's message, with a suggestion for a mistyped flag and where to read on.
[[noreturn]] void throw_usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string where = "tenfold";
  std::string message = error.what();
  for (char& c : message) {
    if (c == '\n') c = ' ';
  }
  const auto chosen = app.get_subcommands();
  if (!chosen.empty()) {
    const CLI::App* command = chosen.front();
    where += " " + command->get_name();
    const auto dashes = message.rfind("--");
    if (dashes != std::string::npos) {
      std::vector<std::string> flags;
      for (const CLI::Option* option : command->get_options()) {
        for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
      }
      const std::string word = message.substr(dashes, message.find_first_of(" =:", dashes) - dashes);
      const std::string suggestion = closest(word, flags);
      if (!suggestion.empty() && suggestion != word) message += "; did you mean " + suggestion + "?";
    }
  }
  throw Error(ErrorKind::config, message + " (see " + where + " --help)");
}

}  // namespace

std::string closest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = word.size() / 3 + 1;  // at most this many edits, so that nothing far-fetched is offered
  for (const std::string& candidate : candidates) {
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= candidate.size(); ++j) {
        const std::size_t replaced = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
      }
    }
    if (row.back() < best_distance || (best.empty() && row.back() == best_distance)) {
      best_distance = row.back();
      best = candidate;
    }
  }
  return best;
}

int run_command_line(int argc, char** argv) {
  // What mpirun starts; no user types these, and their arguments are their own.
  if (argc > 1 && std::string_view(argv[1]) == "rank") return run_rank(argc, argv);
  if (argc > 1 && std::string_view(argv[1]) == "host-agent") return run_host_agent(argc, argv);
  if (argc > 1 && std::string_view(argv[1]) == "mpi-check") return mpi_check_rank(argc, argv);
  if (argc > 1 && std::string_view(argv[1]) == "mps-keeper") return keep_mps(argc, argv);

  CLI::App app(
      "tenfold runs cross-validation experiments of test-time training: one YAML file in, one SQLite file of every\n"
      "step's losses and every metric out.",
      "tenfold");
  app.require_subcommand(1);
  app.set_version_flag("--version", "tenfold " TENFOLD_VERSION);
  app.footer(
      "A first round:\n"
      "  tenfold plan experiments/digits.yaml          what it would do\n"
      "  tenfold run experiments/digits.yaml           do it; again after any interruption to go on\n"
      "  tenfold report digits --kind ttt-loss         what adaptation did to the losses\n"
      "  tenfold query \"SELECT * FROM leaderboard\"     any question in SQL\n\n"
      "Commands of the launcher script: ./tenfold setup, ./tenfold test [--sanitize], ./tenfold bench NAME.\n"
      "tenfold COMMAND --help shows a command's flags and examples.");
  Action action;
  add_run(app, action);
  add_plan(app, action);
  add_cluster_commands(app, action);
  add_status(app, action);
  add_query(app, action);
  add_report(app, action);
  add_diagnose(app, action);
  add_import(app, action);
  add_schema(app, action);
  add_doctor(app, action);
  add_version(app, action);

  if (argc <= 1) {
    std::cerr << app.help();
    return exit_code(ErrorKind::config);
  }
  check_command(app, argv[1]);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked_for_help) {
    return app.exit(asked_for_help, std::cout, std::cerr);
  } catch (const CLI::ParseError& error) {
    throw_usage_error(app, error);
  }
  const int code = action();
  std::cout.flush();
  if (!std::cout) throw Error(ErrorKind::storage, "cannot write to standard output: is the disk full?");
  return code;
}

}  // namespace tenfold
