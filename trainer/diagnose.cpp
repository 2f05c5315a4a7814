#include "trainer/diagnose.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "experiments/error.h"
#include "experiments/file_text.h"
#include "trainer/compute.h"
#include "trainer/diagnose_language.h"
#include "trainer/diagnose_recurrent.h"

namespace tenfold {
namespace {

namespace fs = std::filesystem;

void write_whole(const fs::path& file, const std::string& text) {
  const fs::path part = file.string() + "." + std::to_string(::getpid()) + ".part";
  std::ofstream stream(part, std::ios::binary);
  stream << text;
  stream.close();
  std::error_code error;
  if (stream) fs::rename(part, file, error);
  if (!stream || error) {
    fs::remove(part, error);
    throw Error(ErrorKind::storage,
                file.string() + ": the result cannot be written: may you write there, is there space?");
  }
}

}  // namespace

DiagnoseResult diagnose(const DiagnoseJob& job) {
  at::NoGradGuard no_grad;
  const std::unique_ptr<Compute> compute = make_compute(job.device);
  const at::Device device = compute->device();
  const DiagnosedSubject subject = load_subject(job, device);
  DiagnoseResult result = subject.spec.model.kind == "ttt_rnn" ? diagnose_recurrent(job, subject, device)
                                                               : diagnose_language(job, subject, device);
  result.model.kind = subject.spec.model.kind;
  result.model.layers = subject.spec.model.layers;
  result.model.missing = subject.missing;
  return result;
}

void run_diagnose_job(const std::string& job_file, int threads) {
  const std::optional<std::string> asked = file_text(job_file);
  if (!asked) throw Error(ErrorKind::communication, job_file + ": the job of a diagnosis cannot be read");
  const DiagnoseJob job = decode_diagnose_job(*asked);
  at::set_num_threads(threads > 0 ? threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  try {
    write_whole(job.output, encode(diagnose(job)));
  } catch (const c10::OutOfMemoryError& error) {
    throw Error(ErrorKind::device, "out of memory on " + job.device + ": " + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    throw Error(ErrorKind::internal, "LibTorch: " + text.substr(0, text.find('\n')));
  }
}

}  // namespace tenfold
