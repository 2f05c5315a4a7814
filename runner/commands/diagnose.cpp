#include "runner/commands/diagnose.h"

#include <unistd.h>

#include <cmath>
#include <fstream>
#include <optional>
#include <ostream>

#include "datasets/dataset.h"
#include "db/inner_loop_report.h"
#include "db/text_table.h"
#include "experiments/error.h"
#include "experiments/file_text.h"
#include "runner/commands/diagnose_plots.h"
#include "runner/spawn.h"
#include "runner/worker_trainer.h"
#include "trainer/protocol_diagnose.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxResultBytes = std::uintmax_t{256} << 20;

void write_file(const fs::path& file, const std::string& text) {
  std::ofstream stream(file, std::ios::binary);
  stream << text;
  stream.close();
  if (!stream)
    throw Error(ErrorKind::storage, "cannot write " + file.string() + ": may you write there, is there space?");
}

std::string read_file(const fs::path& file, std::uintmax_t limit) {
  std::error_code error;
  const std::uintmax_t size = fs::file_size(file, error);
  std::optional<std::string> text;
  if (!error && size <= limit) text = file_text(file);
  if (!text) throw Error(ErrorKind::communication, "the trainer left no readable result in " + file.string());
  return *text;
}

fs::path existing(const fs::path& path, const char* flag) {
  std::error_code error;
  if (!fs::exists(path, error))
    throw Error(ErrorKind::config, std::string(flag) + " " + path.string() + ": there is no such file or folder");
  return fs::absolute(path).lexically_normal();
}

// A name as part of a path.
std::string as_file_name(const std::string& name) {
  std::string result;
  for (const char c : name)
    result += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_' || c == '.' ? c : '_';
  return result.empty() || result[0] == '.' ? "_" + result : result;
}

DiagnoseResult run_trainer(DiagnoseJob& job, const fs::path& folder) {
  const fs::path request = folder / "diagnose_job.json", log = folder / "diagnose.log";
  job.output = (folder / "diagnose_result.json").string();
  std::error_code ignored;
  fs::remove(job.output, ignored);
  fs::remove(log, ignored);
  write_file(request, encode(job));
  const TrainerSettings settings = trainer_settings(job.device, log);
  ChildProcess child = spawn({settings.program,
                              {"--diagnose", request.string(), "--parent-pid", std::to_string(::getpid())},
                              environment_with({}),
                              log,
                              -1,
                              {}});
  while (!child.wait_for(std::chrono::hours(1))) {
  }
  if (child.how_it_ended() != "exited with code 0") {
    const std::string words = log_tail(log, 0);
    throw Error(ErrorKind::data, "the model could not be run: tenfold-trainer " + child.how_it_ended() +
                                     (words.empty() ? "" : ": " + words) + " (log: " + log.string() + ")");
  }
  const DiagnoseResult result = decode_diagnose_result(read_file(job.output, kMaxResultBytes));
  fs::remove(request, ignored);
  fs::remove(log, ignored);
  return result;
}

// trained: updates were done since the parameters began.
InnerLoopSubject subject_of(const DiagnoseResult& result, const DiagnoseJob& job, const std::string& name,
                            bool trained) {
  InnerLoopSubject subject;
  subject.sentences = {"Model: " + printable(name) + ".",
                       "Stream: " + (job.input.empty() ? "the held-out fold" : printable(job.input)) + ", " +
                           std::to_string(result.model.stream_length) + " positions."};
  InnerLoopModel& model = subject.model;
  if (!job.configuration.empty()) model = inner_loop_model(job.configuration);
  model.kind = result.model.kind;
  model.layers = static_cast<int>(result.model.layers);
  model.stream_length = result.model.stream_length;
  model.max_positions = std::min(job.max_positions, std::max<std::int64_t>(1, result.model.stream_length));
  model.nll = result.model.nll;
  model.nll_without_ttt = result.model.nll_without_ttt;
  model.kl_without_ttt = result.model.kl_without_ttt;
  model.position_loss = result.model.position_loss;
  model.codebook_shares = result.model.codebook_shares;
  for (const DiagnosedTokens& tokens : result.model.token_classes)
    model.token_classes.push_back({tokens.name, tokens.share, tokens.loss_share, tokens.loss});
  model.missing = result.model.missing;
  for (const DiagnosedLayer& measured : result.layers) {
    InnerLoopLayer layer;
    if (!job.configuration.empty()) layer = inner_loop_layer(job.configuration);
    layer.layer = measured.layer;
    layer.kind = measured.kind;
    layer.weights_found = measured.weights_found;
    layer.reset_each_step = measured.reset_each_step;
    layer.carries = measured.carried;
    layer.mini_batch_size = measured.mini_batch_size;
    layer.gate_mean_abs = measured.gate_mean_abs;
    layer.gate_min = measured.gate_min;
    layer.gate_max = measured.gate_max;
    layer.trained = trained;
    layer.movement_start = measured.movement_start;
    layer.movement_end = measured.movement_end;
    layer.carry_gap = measured.carry_gap;
    layer.kl_without = measured.kl_without;
    for (std::size_t t = 0; t < measured.l0.size(); ++t) layer.curves.position.push_back(static_cast<std::int64_t>(t));
    layer.curves.l0 = measured.l0;
    layer.curves.lprev = measured.lprev;
    layer.curves.lafter = measured.lafter;
    subject.layers.push_back(std::move(layer));
  }
  return subject;
}

// Runs a saved model: one of the store's checkpoints, or a published one.
InnerLoopSubject run_saved_model(const DiagnoseOptions& options, const fs::path& folder) {
  DiagnoseJob job;
  std::optional<SavedModel> saved;
  std::string name;
  if (options.checkpoint.empty()) {
    saved = saved_model_of_trial(options.db, options.experiment, options.trial.value(), options.step);
  } else {
    const fs::path checkpoint = existing(options.checkpoint, "--checkpoint");
    saved = saved_model_of_file(checkpoint, options.member);
    job.checkpoint = name = checkpoint.string();
  }
  if (saved) {
    job.checkpoint = existing(saved->checkpoint, "checkpoint").string();
    job.array_index = saved->array_index;
    job.configuration = saved->configuration;
    job.sample_shape = saved->sample_shape;
    job.classes = saved->classes;
    job.fingerprint = saved->fingerprint;
    job.cache_folder = cache_folder().string();
    job.repeat = saved->repeat;
    job.fold = saved->fold;
    name = saved->name;
  } else if (options.input.empty()) {
    throw Error(ErrorKind::config, "diagnose: a published checkpoint needs a stream to run: --input FILE");
  }
  if (!options.input.empty()) job.input = existing(options.input, "--input").string();
  if (!options.tokenizer.empty()) job.tokenizer = existing(options.tokenizer, "--tokenizer").string();
  job.max_positions = options.max_positions;
  job.device = options.device;
  const DiagnoseResult result = run_trainer(job, folder);
  return subject_of(result, job, name, saved && (saved->step > 0 || !saved->of_fit));
}

void check(const DiagnoseOptions& options) {
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::config, "diagnose: " + what); };
  if (options.experiment.empty() == options.checkpoint.empty())
    refuse("name an experiment of the store, or a saved model with --checkpoint");
  if (!options.checkpoint.empty() && options.trial) refuse("--trial and --checkpoint exclude each other");
  if (!options.checkpoint.empty() && options.step)
    refuse("--step belongs to a trial: tenfold diagnose NAME --trial ID --step N");
  if (options.checkpoint.empty() && !options.trial && !options.input.empty())
    refuse("--input needs a model to run: --trial ID or --checkpoint PATH");
  if (options.device != "cpu" && !options.device.starts_with("cuda:")) refuse("--device is cpu or cuda:N");
  // Before a folder is made for nothing.
  if (!options.checkpoint.empty()) existing(options.checkpoint, "--checkpoint");
  if (!options.input.empty()) existing(options.input, "--input");
  if (!options.tokenizer.empty()) existing(options.tokenizer, "--tokenizer");
}

fs::path make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw Error(ErrorKind::storage, "cannot make the folder " + folder.string() + ": " + error.message());
  return fs::absolute(folder).lexically_normal();
}

fs::path out_folder(const DiagnoseOptions& options) {
  if (!options.out.empty()) return options.out;
  std::string name = options.experiment.empty() ? options.checkpoint.filename().string() : options.experiment;
  if (options.trial) name += "-trial" + std::to_string(*options.trial);
  return "diagnosis-" + as_file_name(name);
}

// Figures of every subject, in a folder of its own where there are several. Why some are missing, once.
std::string draw(const std::vector<InnerLoopSubject>& subjects, const fs::path& folder, const std::string& title) {
  std::string missing;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const InnerLoopSubject& subject = subjects[i];
    const fs::path place =
        subjects.size() == 1 ? folder : make_folder(folder / (std::to_string(i) + "-" + as_file_name(subject.name)));
    for (const InnerLoopLayer& layer : subject.layers) {
      if (layer.curves.size() == 0) continue;
      const std::string of = title + (subject.name.empty() ? "" : ", " + subject.name) + ", " + layer_name(layer);
      const std::string problem = plot_figure5(place, "figure5_layer" + std::to_string(layer.layer), of, layer.curves);
      if (missing.empty()) missing = problem;
    }
  }
  return missing;
}

}  // namespace

int diagnose_command(const DiagnoseOptions& options, std::ostream& out, std::ostream& errors) {
  check_report_format(options.format);
  check(options);
  const bool run = !options.checkpoint.empty() || !options.input.empty() ||
                   (options.trial && options.step && !inner_losses_recorded(options.db, *options.trial, *options.step));
  std::vector<InnerLoopSubject> subjects;
  if (!run) subjects = load_inner_loops(options.db, {options.experiment, options.trial, options.step});
  const fs::path folder = make_folder(out_folder(options));
  if (run) subjects = {run_saved_model(options, folder)};
  const std::string of = options.experiment.empty() ? options.checkpoint.string() : options.experiment;
  const ReportDocument report = inner_loop_report("Is the inner loop learning? " + printable(of), subjects);
  write_file(folder / "ttt_diagnostic_report.txt", render(report, "text"));
  out << render(report, options.format);
  const std::string missing = draw(subjects, folder, of);
  if (options.format == "text") out << "\nWritten to " << folder.string() << "\n";
  if (missing.empty()) return kExitDone;
  errors << "tenfold: plots are missing: " << missing << "\n";
  return kExitPlotsMissing;
}

}  // namespace tenfold
