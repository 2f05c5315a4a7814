#include "runner/commands/import.h"

#include <ostream>

#include "db/import_ttt_steps.h"
#include "experiments/error.h"

namespace tenfold {

int import_command(const ImportOptions& options, std::ostream& out) {
  const ImportSummary summary = import_ttt_steps(options.db, options.file, options.name);
  // Flagged rows are worth a word also when quiet.
  if (!options.quiet || !summary.flagged.empty()) out << describe(summary);
  return kExitDone;
}

}  // namespace tenfold
