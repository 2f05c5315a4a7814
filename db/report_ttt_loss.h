#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace tenfold {

// What adaptation did to its losses: per fold, averaged, reduced, compared, converged, and what it brought.
//   name, against: an experiment, or experiment/label for one configuration; `against` may also be a label of the
//     same experiment. Two experiments are compared label by label, or one configuration against each of the other's.
//   interval: steps between the rows shown (the first and the last are always shown)
//   format: text, markdown, json, csv
// Throws Error(config) for names that the store does not have, and when nothing is finished yet.
std::string ttt_loss_report(const std::filesystem::path& db, const std::string& name,
                            const std::optional<std::string>& against, int interval, const std::string& format);

}  // namespace tenfold
