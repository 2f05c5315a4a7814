#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "experiments/shard.h"

// The flags that mean the same everywhere, declared once.
namespace tenfold {

// What the parsed command line asks for; run after parsing, so that errors of the two are told apart.
using Action = std::function<int()>;

CLI::App* add_command(CLI::App& app, const char* name, const char* description, const char* footer);
// The store that is meant (db/store_path.h), where there is a shard its own.
void add_db(CLI::App* command, std::filesystem::path& db, const Shard* shard = nullptr);
void add_format(CLI::App* command, std::string& format, std::vector<std::string> allowed);
void add_experiment_file(CLI::App* command, std::filesystem::path& file, std::vector<std::string>& overrides);
void add_resources(CLI::App* command, int& slots, std::string& device);
void add_shard(CLI::App* command, Shard& shard, const std::string& meaning);

}  // namespace tenfold
