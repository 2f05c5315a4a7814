#include <nlohmann/json.hpp>

#include "runner/commands/plan_summary.h"

namespace tenfold {
namespace {

nlohmann::json range_json(const Range& range) { return {{"least", range.least}, {"most", range.most}}; }

}  // namespace

nlohmann::json to_json(const PlanSummary& s) {
  nlohmann::json json = {
      {"name", s.name},
      {"file", s.file},
      {"db", s.db},
      {"device", s.device},
      {"slots", s.slots},
      {"configurations", s.labels},
      {"fits", s.fits},
      {"trials", s.trials},
      {"train_updates", s.train_updates},
      {"ttt_updates", s.ttt_updates},
      {"trainer_bytes", s.trainer_bytes},
      {"fit_arrays", {{"arrays", s.fit_arrays.arrays}, {"members", range_json(s.fit_arrays.members)}}},
      {"trial_arrays", {{"arrays", s.trial_arrays.arrays}, {"members", range_json(s.trial_arrays.members)}}},
      {"eta_s", s.eta_s < 0 ? nlohmann::json() : nlohmann::json(s.eta_s)},
      {"stored", nullptr},
      {"shard", nullptr},
      {"data", nlohmann::json::array()},
      {"models", nlohmann::json::array()},
      {"groups", nlohmann::json::array()}};
  for (const PlannedGroups& g : s.groups)
    json["groups"].push_back({{"ranks", g.ranks}, {"configurations", g.configurations}, {"at_once", g.at_once}});
  if (s.part) {
    nlohmann::json fits = nlohmann::json::array();
    for (const PlannedFit& f : s.part->fits)
      fits.push_back({{"repeat", f.repeat}, {"fold", f.fold}, {"trials", f.trials}});
    json["shard"] = {{"index", s.part->shard.index}, {"count", s.part->shard.count}, {"fits", fits}};
  }
  if (s.stored) {
    json["stored"] = {{"fits_done", s.stored->fits_done},
                      {"trials_done", s.stored->trials_done},
                      {"trials_failed", s.stored->trials_failed}};
  }
  for (const PlannedData& d : s.data) {
    json["data"].push_back({{"description", d.description},
                            {"fingerprint", d.fingerprint},
                            {"samples", d.samples},
                            {"sample_shape", d.sample_shape},
                            {"classes", d.classes},
                            {"folds", d.folds},
                            {"splits", d.splits},
                            {"train_n", range_json(d.train_n)},
                            {"validation_n", range_json(d.validation_n)},
                            {"test_n", range_json(d.test_n)},
                            {"adaptation_n", range_json(d.adaptation_n)}});
  }
  for (const PlannedModel& m : s.models) {
    nlohmann::json adapted = nlohmann::json::array();
    for (const AdaptedParameters& a : m.adapted) {
      adapted.push_back({{"patterns", a.patterns},
                         {"parameters", a.parameters},
                         {"names", a.names},
                         {"configurations", a.configurations}});
    }
    json["models"].push_back({{"description", m.description},
                              {"parameters", m.parameters},
                              {"tensors", m.tensors},
                              {"configurations", m.configurations},
                              {"adapted", adapted}});
  }
  return json;
}

}  // namespace tenfold
