#include <algorithm>
#include <array>

#include "datasets/file_collection.h"
#include "datasets/label_table.h"
#include "datasets/loaders.h"
#include "datasets/log_mel.h"
#include "datasets/memory_need.h"
#include "datasets/name_pattern.h"
#include "datasets/recording.h"
#include "datasets/sequence_values.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr std::array<std::string_view, 2> kEndings = {".wav", ".flac"};

struct Spoken {
  std::string name;  // in the folder or archive
  NamePattern::Match said;
  std::vector<float> rows;  // (steps, features)
};

std::string_view stem_of(std::string_view name) {
  name.remove_prefix(name.rfind('/') + 1);  // npos + 1 is 0
  return name.substr(0, name.rfind('.'));
}

std::vector<Spoken> read_all(const DatasetSpec& spec, const NamePattern& pattern, const LogMel& log_mel) {
  const ColumnSelection bands(spec.feature_ranges, spec.mels, "dataset.mels");
  std::vector<Spoken> recordings;
  std::uint64_t bytes_needed = 0;
  for_each_file(spec.path, kEndings, [&](const FoundFile& file) {
    auto said = pattern.match(stem_of(file.name));
    if (!said)
      throw Error(ErrorKind::data, file.place + ": the name does not match dataset.file_pattern '" + spec.file_pattern +
                                       "'; change the pattern, or take the file out");
    Spoken spoken{file.name, std::move(*said), {}};
    const std::vector<float> samples = read_recording(file.bytes, spec.sample_rate, file.place);
    const std::int64_t steps = kept_steps(spec, log_mel.frames(static_cast<std::int64_t>(samples.size())));
    const auto values = static_cast<std::size_t>(steps * bands.count());
    bytes_needed += values * sizeof(float);
    require_memory(2 * bytes_needed, spec.path);  // once by file, once all in order
    log_mel.append(samples, steps, spoken.rows);
    if (!bands.all()) {
      std::vector<float> chosen(values);
      bands.gather(spoken.rows, chosen);
      spoken.rows = std::move(chosen);
    }
    transform_values(spoken.rows, spec.transform);
    recordings.push_back(std::move(spoken));
  });
  return recordings;
}

// Numbers in the order of names, whatever the order of files.
std::vector<std::string> number(const std::vector<Spoken>& recordings, std::string NamePattern::Match::*what,
                                std::vector<std::int64_t>& codes) {
  LabelTable table;
  for (const Spoken& spoken : recordings) codes.push_back(table.code(spoken.said.*what));
  LabelTable::Sorted sorted = table.finish();
  renumber(codes, sorted.position);
  return std::move(sorted.names);
}

}  // namespace

Dataset::Parts load_wav(const DatasetSpec& spec) {
  if (spec.path.empty())
    throw Error(ErrorKind::config, "dataset.path: name the folder of wav files, or a tar archive of it");
  const NamePattern pattern(spec.file_pattern);
  const LogMel log_mel(spec.sample_rate, spec.mels, spec.frame_ms, spec.hop_ms);
  std::vector<Spoken> recordings = read_all(spec, pattern, log_mel);
  if (recordings.empty()) throw Error(ErrorKind::data, spec.path + ": there is no .wav or .flac file in it");
  std::sort(recordings.begin(), recordings.end(), [](const Spoken& a, const Spoken& b) { return a.name < b.name; });
  for (std::size_t i = 1; i < recordings.size(); ++i)
    if (recordings[i].name == recordings[i - 1].name)
      throw Error(ErrorKind::data, spec.path + ": holds " + recordings[i].name + " twice");

  Dataset::Parts parts;
  parts.kind = SampleKind::sequence;
  parts.label_kind = LabelKind::sample;
  const std::int64_t features = ColumnSelection(spec.feature_ranges, spec.mels, "dataset.mels").count();
  parts.sample_shape = {features};
  parts.class_names = number(recordings, &NamePattern::Match::label, parts.labels);
  require_classes(parts.class_names.size(), static_cast<std::int64_t>(recordings.size()), spec.path);
  if (pattern.has_group()) parts.group_names = number(recordings, &NamePattern::Match::group, parts.groups);
  std::size_t values = 0;
  for (const Spoken& spoken : recordings) values += spoken.rows.size();
  parts.samples.reserve(values);
  std::int64_t start = 0;
  for (Spoken& spoken : recordings) {
    const auto steps = static_cast<std::int64_t>(spoken.rows.size()) / features;
    parts.starts.push_back(start);
    parts.lengths.push_back(steps);
    start += steps;
    parts.samples.insert(parts.samples.end(), spoken.rows.begin(), spoken.rows.end());
    std::vector<float>().swap(spoken.rows);
  }
  return parts;
}

}  // namespace tenfold
