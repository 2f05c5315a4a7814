#include "runner/command_line_options.h"

#include <utility>

#include "db/store_path.h"

namespace tenfold {

CLI::App* add_command(CLI::App& app, const char* name, const char* description, const char* footer) {
  CLI::App* command = app.add_subcommand(name, description);
  command->footer(std::string("Examples:\n") + footer);
  return command;
}

void add_db(CLI::App* command, std::filesystem::path& db, const Shard* shard) {
  command->add_option("--db", db, "The store, an SQLite file (default: tenfold.db)")->type_name("FILE");
  // Before the command's own callback. A shard's store lies beside the name that was typed.
  command->parse_complete_callback([&db, shard] { db = store_path(shard ? shard_store(db, *shard) : db); });
}

void add_format(CLI::App* command, std::string& format, std::vector<std::string> allowed) {
  const std::string text = "Output format (default: " + format + ")";
  command->add_option("--format", format, text)->check(CLI::IsMember(std::move(allowed)));
}

void add_experiment_file(CLI::App* command, std::filesystem::path& file, std::vector<std::string>& overrides) {
  command->add_option("EXPERIMENT", file, "The experiment file (YAML)")->required()->type_name("FILE");
  command->add_option("--set", overrides, "Set a key of the file, e.g. --set ttt.steps=10 (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->check([](const std::string& text) {
        const auto equals = text.find('=');
        return equals == std::string::npos || equals == 0 ? "'" + text + "' is not KEY=VALUE" : std::string();
      });
}

void add_resources(CLI::App* command, int& slots, std::string& device) {
  command->add_option("--slots", slots, "Arrays computed at a time (default: the GPUs, or else the cores)")
      ->type_name("N")
      ->check(CLI::Range(1, 100000).description(""));
  command->add_option("--device", device, "Where to compute (default: as the file says)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
}

void add_shard(CLI::App* command, Shard& shard, const std::string& meaning) {
  command
      ->add_option_function<std::string>(
          "--shard", [&shard](const std::string& text) { shard = parse_shard(text); }, meaning)
      ->type_name("I/N");
}

}  // namespace tenfold
