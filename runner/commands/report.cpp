#include "runner/commands/report.h"

#include <unistd.h>

#include <fstream>
#include <ostream>

#include "db/report_experiment.h"
#include "db/report_ttt_loss.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

// Written aside and renamed: a report that is read while it is written is the old one, whole.
void write_file(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::path aside = file;
  aside += ".partial." + std::to_string(getpid());
  {
    std::ofstream stream(aside, std::ios::binary);
    stream << text;
    stream.close();
    if (!stream) {
      std::error_code ignored;
      std::filesystem::remove(aside, ignored);
      throw Error(ErrorKind::storage,
                  "cannot write " + file.string() + ": does its folder exist, may you write there, is there space?");
    }
  }
  std::error_code failure;
  std::filesystem::rename(aside, file, failure);
  if (failure) {
    std::error_code ignored;
    std::filesystem::remove(aside, ignored);
    throw Error(ErrorKind::storage, "cannot write " + file.string() + ": " + failure.message());
  }
}

}  // namespace

int report_command(const ReportOptions& options, std::ostream& out) {
  if (options.kind == "experiment" && options.against)
    throw Error(ErrorKind::config, "report: --against compares losses; --kind experiment takes none");
  const std::string text =
      options.kind == "experiment"
          ? experiment_report(options.db, options.experiment, options.format)
          : ttt_loss_report(options.db, options.experiment, options.against, options.interval, options.format);
  if (options.out_file.empty()) {
    out << text;
  } else {
    write_file(options.out_file, text);
  }
  return kExitDone;
}

}  // namespace tenfold
