// How a trial gains from a second GPU: the same fit, as trainers compute it, by one rank and by more. Prints JSON
// lines: seconds a step (median of the later steps), how many times faster, and, of several ranks, seconds a step with
// all gradients in one bucket: their sum then begins when the backward pass is over, so what the usual buckets gain is
// what they hide behind it.
//
//   group_benchmark --ranks 1,2 --models mlp,transformer_lm --device cuda
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "datasets/dataset.h"
#include "experiments/error.h"
#include "experiments/experiment.h"
#include "tests/trainer/group_processes.h"

namespace tenfold {
namespace {

struct Case {
  const char* name;
  const char* dataset;
  const char* model;
  const char* train;
};

// Compute-bound: products far larger than the sum of their gradients. `small` is for a CPU.
constexpr Case kCases[] = {
    {"mlp", "{kind: synthetic, samples: 32768, features: 1024, classes: 16, seed: 1}",
     "{kind: mlp, hidden: [4096, 4096, 4096], norm: layer, dropout: 0.1}", "steps: 40, batch_size: 16384"},
    {"transformer_lm", "{kind: text, path: TEXT, sequence_length: 512}",
     "{kind: transformer_lm, layers: 8, width: 1024, heads: 16}", "steps: 24, batch_size: 64"},
    {"small", "{kind: synthetic, samples: 2048, features: 64, classes: 4, seed: 1}",
     "{kind: mlp, hidden: [256, 256], norm: layer}", "steps: 40, batch_size: 512"},
};

constexpr char kBucketBytes[] = "TENFOLD_BUCKET_BYTES";
constexpr char kOneBucket[] = "1e12";

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tenfold-group-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw Error(ErrorKind::storage, "no folder for temporary files");
    path_ = pattern;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

ArrayJob job_of(const Case& c, const Folder& folder, const std::string& precision) {
  const std::filesystem::path text = folder.path() / "text.txt";
  if (!std::filesystem::exists(text)) {
    std::ofstream out(text);
    for (int i = 0; i < 40'000; ++i) out << "line " << i << " of " << i * 7919 % 10'007 << " which nobody will read.\n";
  }
  std::string dataset = c.dataset;
  if (const std::size_t at = dataset.find("TEXT"); at != std::string::npos) dataset.replace(at, 4, text.string());
  const bool tokens = dataset.find("kind: text") != std::string::npos;
  const ExperimentSpec spec =
      Experiment::parse("dataset: " + dataset + "\nfolds: {kind: kfold, k: 20}\nmodel: " + c.model + "\ntrain: {" +
                            c.train + ", optimizer: {kind: adamw, lr: 1e-4}, clip_norm: 1.0}\nttt: {method: source}\n" +
                            "metrics: [" + (tokens ? "nll" : "accuracy") + "]\nprecision: " + precision + "\n",
                        "group_benchmark")
          .resolve(0);
  const Dataset loaded = load_dataset(spec.dataset);
  write_cached_dataset(loaded, folder.path() / "cache");
  ArrayJob job;
  job.configurations = {to_json(spec).dump()};
  job.members.emplace_back();
  job.fingerprint = loaded.fingerprint().hex();
  job.checkpoint_folder = (folder.path() / "checkpoints").string();
  job.cache_folder = (folder.path() / "cache").string();
  job.array = c.name;
  return job;
}

// Blocks share their time equally over their steps: the median of the later half is free of what comes first.
double step_seconds(const std::vector<TrainStepRow>& rows) {
  std::vector<double> seconds;
  for (std::size_t i = rows.size() / 2; i < rows.size(); ++i) seconds.push_back(rows[i].wall_s);
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2];
}

testing::GroupResult fit(const Case& c, const ArrayJob& job, int size, const std::string& device) {
  std::vector<std::string> devices;
  for (int i = 0; i < size; ++i) devices.push_back(device == "cpu" ? "cpu" : "cuda:" + std::to_string(i));
  testing::GroupResult result = testing::run_group_processes(job, devices);
  for (const std::string& error : result.errors)
    if (!error.empty()) throw Error(ErrorKind::communication, std::string(c.name) + ": " + error);
  if (result.train_steps.empty()) throw Error(ErrorKind::internal, "no steps were reported");
  return result;
}

// NaN, which JSON writes as null, of one rank, which has no buckets.
double one_bucket_step_seconds(const Case& c, const ArrayJob& job, int size, const std::string& device) {
  if (size == 1) return std::numeric_limits<double>::quiet_NaN();
  setenv(kBucketBytes, kOneBucket, 1);
  const double seconds = step_seconds(fit(c, job, size, device).train_steps);
  unsetenv(kBucketBytes);
  return seconds;
}

void measure(const Case& c, const std::vector<int>& ranks, const std::string& device, const std::string& precision,
             const std::string& bucket_bytes) {
  const Folder folder;
  const ArrayJob job = job_of(c, folder, precision);
  std::map<int, double> step_s, whole_s;
  double first_grad_norm = 0;
  for (const int size : ranks) {
    if (!bucket_bytes.empty()) setenv(kBucketBytes, bucket_bytes.c_str(), 1);
    const auto begin = std::chrono::steady_clock::now();
    const testing::GroupResult result = fit(c, job, size, device);
    whole_s[size] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    step_s[size] = step_seconds(result.train_steps);
    if (size == ranks.front()) first_grad_norm = result.train_steps[0].grad_norm;
    const double one_bucket_step_s = one_bucket_step_seconds(c, job, size, device);
    const nlohmann::json line = {{"model", c.name},
                                 {"precision", precision},
                                 {"ranks", size},
                                 {"step_s", step_s[size]},
                                 {"one_bucket_step_s", one_bucket_step_s},
                                 {"times_faster", step_s[ranks.front()] / step_s[size]},
                                 {"whole_s", whole_s[size]},
                                 {"first_loss", result.train_steps[0].loss},
                                 {"first_grad_norm", result.train_steps[0].grad_norm},
                                 {"grad_norm_difference", result.train_steps[0].grad_norm / first_grad_norm - 1},
                                 {"last_loss", result.train_steps.back().loss}};
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  }
}

int run(int argc, char** argv) {
  CLI::App app("A fit by one rank and by several, as JSON lines");
  std::string device = "cuda", precision = "float32";
  std::vector<std::string> models = {"mlp", "transformer_lm"};
  std::string bucket_bytes;
  std::vector<int> ranks = {1, 2};
  app.add_option("--device", device, "cpu or cuda");
  app.add_option("--precision", precision, "float32 or tf32");
  app.add_option("--models", models, "mlp transformer_lm small")->delimiter(',');
  app.add_option("--ranks", ranks, "sizes of groups")->delimiter(',')->check(CLI::Range(1, 64));
  app.add_option("--bucket-bytes", bucket_bytes, "of the usual buckets; else 16 MiB on GPUs and one bucket on CPUs");
  CLI11_PARSE(app, argc, argv);
  for (const std::string& name : models) {
    const auto found =
        std::find_if(std::begin(kCases), std::end(kCases), [&](const Case& c) { return name == c.name; });
    if (found == std::end(kCases)) throw Error(ErrorKind::config, "--models: no case is called '" + name + "'");
    measure(*found, ranks, device, precision, bucket_bytes);
  }
  return 0;
}

}  // namespace
}  // namespace tenfold

int main(int argc, char** argv) {
  try {
    return tenfold::run(argc, argv);
  } catch (const tenfold::Error& error) {
    std::fprintf(stderr, "group_benchmark: %s\n", error.what());
    return tenfold::exit_code(error.kind());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "group_benchmark: %s\n", error.what());
    return 1;
  }
}
