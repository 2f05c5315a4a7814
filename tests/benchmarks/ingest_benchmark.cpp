// How fast the store takes what a sweep produces, as a table. Not a test: figures depend on the machine.
//   ingest_benchmark [--rows N] [--folder DIR] [--large]    --large also makes a 1 GB store and asks it
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "db/query.h"
#include "db/writer.h"
#include "experiments/error.h"

namespace {

using namespace tenfold;
using Clock = std::chrono::steady_clock;

// Of the whole process: what a machine that has other things to do would still need.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

DatasetSummary summarise(const ExperimentSpec& spec) {
  DatasetSummary summary;
  summary.fingerprint = sha256("benchmark");
  summary.samples = 1000;
  summary.sample_shape = {20};
  summary.classes = 3;
  for (int fold = 0; fold < spec.folds.k; ++fold) {
    SplitSummary split;
    split.fold = fold;
    split.hash = sha256(std::to_string(fold));
    split.train_n = 800;
    split.test_n = 200;
    summary.splits.push_back(split);
  }
  return summary;
}

struct Prepared {
  Experiment experiment;
  Plan plan;
};

Prepared prepare(std::size_t configurations) {
  std::string values;
  for (std::size_t i = 0; i < configurations; ++i) {
    char value[32];
    std::snprintf(value, sizeof value, "%.7g", 1e-6 * static_cast<double>(i + 1));
    values += (i == 0 ? "" : ", ") + std::string(value);
  }
  Experiment experiment = Experiment::parse(
      "name: benchmark\ndataset: {kind: synthetic}\nfolds: {kind: stratified, k: 10}\n"
      "ttt: {query_size: 0, batch_size: 32}\nsweep: {ttt.lr: [" +
          values + "]}\n",
      "benchmark.yaml");
  Plan plan = make_plan(experiment, summarise);
  return {std::move(experiment), std::move(plan)};
}

void line(const char* what, double count, const char* unit, double seconds) {
  static double cpu_before = 0;
  const double cpu = cpu_seconds();
  std::printf("%-36s %9.0f %-8s %7.2f s %10.0f /s %7.2f s of CPU\n", what, count, unit, seconds, count / seconds,
              cpu - cpu_before);
  cpu_before = cpu_seconds();
  std::fflush(stdout);
}

// 64 KiB blocks, members interleaved as an array of 12 sends them, with the back-pressure of a coordinator.
template <class Row, class Command, class MakeRow>
double ingest(StoreWriter& writer, const std::vector<UnitState>& units, std::int64_t rows, MakeRow make_row) {
  constexpr std::int64_t kBlock = 64 * 1024 / sizeof(Row);
  constexpr std::size_t kMembers = 10;
  const Clock::time_point start = Clock::now();
  std::int64_t sent = 0;
  std::size_t group = 0;
  std::int64_t step = 0;
  while (sent < rows) {
    for (std::size_t member = 0; member < kMembers; ++member) {
      std::vector<Row> block(kBlock);
      for (std::int64_t i = 0; i < kBlock; ++i) block[i] = make_row(step + i);
      while (writer.queued_bytes() > (std::size_t{32} << 20)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      writer.submit(Command{units[(group * kMembers + member) % units.size()].id, std::move(block)});
      sent += kBlock;
    }
    step += kBlock;
    if (step >= 5 * kBlock) {
      step = 0;
      if ((++group + 1) * kMembers > units.size()) break;
    }
  }
  writer.flush();
  const double seconds = seconds_since(start);
  line(sizeof(Row) == sizeof(TttStepRow) ? "ttt_step rows through StoreWriter" : "train_step rows through StoreWriter",
       static_cast<double>(sent), "rows", seconds);
  return seconds;
}

void benchmark_rows(const std::filesystem::path& folder, std::int64_t rows) {
  // No shared fits, so that there are enough of them to fill.
  Prepared prepared = prepare(std::max<std::size_t>(20, static_cast<std::size_t>(rows / 30'000)));
  prepared.plan = make_plan(prepared.experiment, summarise, false);
  Store store = Store::open(folder / "rows.db");
  const RegisteredPlan plan = store.register_plan(prepared.experiment, prepared.plan);
  StoreWriter writer(std::move(store));
  ingest<TttStepRow, AddTttSteps>(writer, plan.trials, rows, [](std::int64_t step) {
    return TttStepRow{step, 0.61, 0.6, 0.07, 0.15, 0.93, 10, 0.13, 1.7, 3e-5, 0.0021};
  });
  ingest<TrainStepRow, AddTrainSteps>(writer, plan.fits, rows, [](std::int64_t step) {
    return TrainStepRow{step + 1, step / 45, 0.31 + 1e-6 * static_cast<double>(step), 1e-3, 1.7, 0.0004};
  });
}

void benchmark_trials(const std::filesystem::path& folder) {
  Clock::time_point start = Clock::now();
  const Prepared prepared = prepare(10'000);
  line("parsing and planning", static_cast<double>(prepared.plan.trials.size()), "trials", seconds_since(start));
  Store store = Store::open(folder / "trials.db");
  start = Clock::now();
  const RegisteredPlan plan = store.register_plan(prepared.experiment, prepared.plan);
  line("register_plan, new", static_cast<double>(plan.trials.size()), "trials", seconds_since(start));
  start = Clock::now();
  store.register_plan(prepared.experiment, prepared.plan);
  line("register_plan, unchanged", static_cast<double>(plan.trials.size()), "trials", seconds_since(start));
  StoreWriter writer(std::move(store));
  start = Clock::now();
  std::uint64_t key = 0;
  for (const UnitState& trial : plan.trials) {
    writer.submit(BeginAttempt{++key, {UnitKind::trial, trial.id, 1, 1, "host", 1, "cpu", 0, "log", -1}});
    writer.submit(AttemptEnd{static_cast<RowId>(key), TrialStatus::done, TrialStatus::done, "", 0.001, 1000});
  }
  writer.flush();
  line("attempts begun and finished", static_cast<double>(plan.trials.size()), "trials", seconds_since(start));
  start = Clock::now();
  constexpr int kLone = 200;
  for (int i = 0; i < kLone; ++i) {
    writer.submit(AddEvent{std::nullopt, "note", "x"});
    writer.flush();
  }
  line("lone commands, each durable", kLone, "commits", seconds_since(start));
}

void benchmark_large(const std::filesystem::path& folder) {
  benchmark_rows(folder, 7'000'000);
  std::printf("store of %.2f GB\n", static_cast<double>(std::filesystem::file_size(folder / "rows.db")) / 1e9);
  for (int i = 0; i < 3; ++i) {
    std::ostringstream out;
    const Clock::time_point start = Clock::now();
    run_query(folder / "rows.db", "SELECT step, total FROM ttt_step WHERE trial = 1234 AND step < 10", "csv", out);
    std::printf("%-44s %8.2f ms\n", "indexed query, opening included", 1000 * seconds_since(start));
  }
}

}  // namespace

int main(int argc, char** argv) try {
  std::int64_t rows = 2'000'000;
  bool large = false;
  std::filesystem::path parent = std::filesystem::temp_directory_path();
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--large") == 0) large = true;
    if (std::strcmp(argv[i], "--rows") == 0 && i + 1 < argc) rows = std::atoll(argv[++i]);
    if (std::strcmp(argv[i], "--folder") == 0 && i + 1 < argc) parent = argv[++i];
  }
  std::string pattern = (parent / "ingest-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw Error(ErrorKind::storage, pattern + ": cannot make a folder here");
  const std::filesystem::path folder = pattern;
  if (large)
    benchmark_large(folder);
  else
    benchmark_rows(folder, rows);
  benchmark_trials(folder);
  std::filesystem::remove_all(folder);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "ingest_benchmark: %s\n", error.what());
  return 1;
}
