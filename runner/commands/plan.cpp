#include "runner/commands/plan.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ostream>

#include "experiments/error.h"
#include "runner/commands/plan_summary.h"
#include "runner/rank_slots.h"

namespace tenfold {
namespace {

constexpr std::size_t kLabelsShown = 24;

std::string number(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (auto place = static_cast<std::int64_t>(digits.size()) - 3; place > 0; place -= 3) {
    digits.insert(static_cast<std::size_t>(place), 1, ',');
  }
  return digits;
}

std::string range(const Range& r) {
  return r.least == r.most ? number(r.least) : number(r.least) + " to " + number(r.most);
}

std::string count(std::int64_t n, const std::string& one) { return number(n) + " " + one + (n == 1 ? "" : "s"); }

std::string shape(const std::vector<std::int64_t>& extents) {
  std::string text;
  for (const std::int64_t extent : extents) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text;
}

std::string duration(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::ceil(seconds)));
  std::array<char, 48> text{};
  if (whole < 3600) {
    std::snprintf(text.data(), text.size(), "%lld:%02lld min", whole / 60, whole % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lld:%02lld h", whole / 3600, whole % 3600 / 60);
  }
  return text.data();
}

void line(std::ostream& out, const char* head, const std::string& text) {
  std::array<char, 16> padded{};
  std::snprintf(padded.data(), padded.size(), "%-10s", head);
  out << padded.data() << text << '\n';
}

void print_data(const PlannedData& data, std::ostream& out) {
  line(out, "data",
       data.description + ": " + count(data.samples, "sample") + " of " + shape(data.sample_shape) + ", " +
           number(data.classes) + " classes");
  std::string folds = data.folds + ": " + range(data.train_n) + " to train";
  if (data.validation_n.most > 0) folds += ", " + range(data.validation_n) + " to validate";
  folds += ", " + range(data.test_n) + " held out";
  if (data.adaptation_n.most > 0) folds += ", of which " + range(data.adaptation_n) + " adapted on";
  line(out, "folds", folds);
}

void print_model(const PlannedModel& model, std::ostream& out) {
  line(out, "model",
       model.description + ": " + count(model.parameters, "parameter") + " in " + count(model.tensors, "tensor"));
  for (const AdaptedParameters& adapted : model.adapted) {
    std::string text = adapted.patterns;
    if (adapted.parameters > 0) {
      std::array<char, 32> share{};
      std::snprintf(share.data(), share.size(), " (%.1f %%)",
                    100.0 * static_cast<double>(adapted.parameters) / static_cast<double>(model.parameters));
      text += ": " + number(adapted.parameters) + share.data();
      for (std::size_t i = 0; i < adapted.names.size(); ++i) text += (i == 0 ? ": " : ", ") + adapted.names[i];
    }
    line(out, "  adapts", text);
  }
}

std::string arrays(const PlannedArrays& planned, const char* of) {
  return count(planned.arrays, "array") + " of " + of + " (" + range(planned.members) + " each)";
}

// Of trials over several slots; where there are none, nothing is worth saying.
void print_groups(const PlanSummary& s, std::ostream& out) {
  if (s.groups.empty() || s.groups.back().ranks == 1) return;
  for (const PlannedGroups& g : s.groups) {
    std::string text = count(g.ranks, "slot") + " per trial in " + count(g.configurations, "configuration") + ": ";
    text += g.at_once == 0   ? "more than there are (" + number(s.slots) + "), so the run would not start"
            : g.at_once == 1 ? "one array at a time"
                             : number(g.at_once) + " arrays at once";
    line(out, "groups", text);
  }
}

void print_work(const PlanSummary& s, std::ostream& out) {
  line(out, "work",
       count(static_cast<std::int64_t>(s.labels.size()), "configuration") + ", " + count(s.fits, "fit") + ", " +
           count(s.trials, "trial"));
  line(out, "updates", number(s.train_updates) + " in training, " + number(s.ttt_updates) + " in adaptation");
  const bool nothing_left = s.fit_arrays.arrays + s.trial_arrays.arrays == 0;
  if (!nothing_left) {
    std::string text;
    if (s.fit_arrays.arrays > 0) text = arrays(s.fit_arrays, "fits");
    if (s.trial_arrays.arrays > 0) text += (text.empty() ? "" : ", ") + arrays(s.trial_arrays, "trials");
    line(out, "arrays", "about " + text + ", on " + count(s.slots, "slot") + " (" + s.device + ")");
    line(out, "memory",
         "about " + number((s.trainer_bytes >> 20) + 1) + " MiB in each of " + count(s.slots, "trainer"));
  }
  print_groups(s, out);
  if (s.stored) {
    std::string text = s.db + " has " + number(s.stored->fits_done) + " of " + count(s.fits, "fit") + " and " +
                       number(s.stored->trials_done) + " of " + count(s.trials, "trial");
    if (s.stored->trials_failed > 0) text += "; " + number(s.stored->trials_failed) + " failed";
    line(out, "store", text);
  } else {
    line(out, "store", s.db + " does not exist yet");
  }
  if (nothing_left) {
    line(out, "time", "nothing to do");
  } else if (s.eta_s >= 0) {
    line(out, "time", "about " + duration(s.eta_s) + " by earlier attempts");
  } else {
    line(out, "time", "not known before something like it has run");
  }
}

void print_part(const PlannedPart& part, std::ostream& out) {
  out << "\nshard " << to_string(part.shard) << '\n';
  std::size_t lines = 0;
  for (const PlannedFit& fit : part.fits) {
    if (lines >= kLabelsShown) {
      out << "  and more (--json lists all)\n";
      return;
    }
    out << "  fit of repeat " << fit.repeat << " fold " << fit.fold << ", "
        << count(static_cast<std::int64_t>(fit.trials.size()), "trial") << '\n';
    for (const std::string& label : fit.trials) out << "    " << label << '\n';
    lines += 1 + fit.trials.size();
  }
  if (part.fits.empty()) out << "  nothing: there are fewer fits than shards\n";
}

}  // namespace

int plan_command(const PlanOptions& options, std::ostream& out) {
  const PreparedExperiment prepared = prepare_experiment(options.experiment_file, options.overrides, options.share_fits,
                                                         DataCache::leave, options.shard);
  const ResourcesSpec& resources = prepared.experiment.base().resources;
  // Plans are made on login nodes and laptops, too, for GPUs that are elsewhere.
  const int gpus = visible_gpus();
  const bool gpus_elsewhere = gpus == 0 && (options.device.empty() ? resources.device : options.device) == "cuda";
  const SlotChoice choice = choose_slots(resources, options.slots, options.device, gpus_elsewhere ? 1 : gpus);
  const PlanSummary summary = summarise_plan(prepared, options.db, choice.slots, choice.gpu, options.shard);
  if (options.format == "json") {
    out << to_json(summary).dump(2) << '\n';
    return kExitDone;
  }
  out << summary.name << " (" << summary.file << ")\n\n";
  for (const PlannedData& data : summary.data) print_data(data, out);
  for (const PlannedModel& model : summary.models) print_model(model, out);
  print_work(summary, out);
  if (gpus_elsewhere && options.slots == 0 && resources.slots == 0)
    line(out, "GPUs", "none here: planned for one; --slots N plans for more");
  if (summary.part) {
    print_part(*summary.part, out);
  } else if (summary.labels.size() > 1) {
    out << "\nconfigurations\n";
    for (std::size_t i = 0; i < summary.labels.size() && i < kLabelsShown; ++i)
      out << "  " << summary.labels[i] << '\n';
    if (summary.labels.size() > kLabelsShown) {
      out << "  and " << number(static_cast<std::int64_t>(summary.labels.size() - kLabelsShown))
          << " more (--json lists all)\n";
    }
  }
  return kExitDone;
}

}  // namespace tenfold
