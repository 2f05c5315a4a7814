#include "trainer/published_checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "datasets/safetensors.h"
#include "experiments/error.h"
#include "trainer/published_json.h"

namespace tenfold {
namespace {

constexpr const char* kWhole = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

[[noreturn]] void fail(const std::filesystem::path& where, const std::string& what) {
  throw Error(ErrorKind::data, where.string() + ": " + what);
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Files in which parameters are.
std::vector<std::filesystem::path> shards_of(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_directory(path, error)) {
    if (fs::exists(path / kWhole, error)) return {path / kWhole};
    if (fs::exists(path / kIndex, error)) return shards_of(path / kIndex);
    fail(path, std::string("the folder has neither ") + kWhole + " nor " + kIndex);
  }
  if (!fs::exists(path, error)) fail(path, "there is no such checkpoint");
  if (path.extension() != ".json") return {path};
  const nlohmann::json index = read_published_json(path);
  const auto map = index.find("weight_map");
  if (map == index.end() || !map->is_object() || map->empty())
    fail(path, "an index of shards needs a weight_map from parameters to files");
  std::set<std::string> names;
  for (const auto& [parameter, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
      fail(path, "weight_map names '" + name + "' as the file of " + parameter + ", which is not one beside the index");
    names.insert(name);
  }
  std::vector<fs::path> files;
  for (const std::string& name : names) files.push_back(path.parent_path() / name);
  return files;
}

std::optional<at::ScalarType> type_of(const std::string& dtype) {
  if (dtype == "F32") return at::kFloat;
  if (dtype == "F64") return at::kDouble;
  if (dtype == "F16") return at::kHalf;
  if (dtype == "BF16") return at::kBFloat16;
  return std::nullopt;
}

// Tables that published files carry beside the parameters.
bool follows_from_others(const std::string& name, bool tied_head) {
  return name.ends_with("inv_freq") || name.ends_with(".token_idx") || (tied_head && name == "lm_head.weight");
}

// Lists at most a few of them.
class Complaint {
 public:
  void add(const std::string& what) {
    if (++count_ <= 4) text_ += (count_ == 1 ? "" : "; ") + what;
  }
  std::string text(const std::string& before) const {
    if (count_ == 0) return "";
    return "\n  " + before + text_ + (count_ > 4 ? " ... (" + std::to_string(count_) + " in all)" : "");
  }

 private:
  int count_ = 0;
  std::string text_;
};

// Parameters of added groups are missing as a whole, or not at all.
void check_missing(const ModelLayout& layout, const std::set<std::string>& found, bool keep_missing_ttt,
                   Complaint& missing, std::vector<std::string>& kept) {
  std::set<ParameterGroup> present;
  for (const ParameterInfo& parameter : layout.parameters)
    if (found.contains(parameter.name)) present.insert(parameter.group);
  for (const ParameterInfo& parameter : layout.parameters) {
    if (found.contains(parameter.name)) continue;
    const bool of_ttt = parameter.group == ParameterGroup::ttt || parameter.group == ParameterGroup::gate;
    if (!(of_ttt && keep_missing_ttt) && (parameter.group == ParameterGroup::base || present.contains(parameter.group)))
      missing.add(parameter.name);
    else
      kept.push_back(parameter.name);
  }
}

}  // namespace

PublishedParameters load_published_parameters(const std::filesystem::path& path, const ModelLayout& layout,
                                              ModelState& state, bool keep_missing_ttt) {
  at::NoGradGuard no_grad;
  std::map<std::string, std::size_t> place;
  for (std::size_t i = 0; i < layout.parameters.size(); ++i) place[layout.parameters[i].name] = i;
  const bool tied_head = !place.contains("lm_head.weight");
  std::set<std::string> found;
  Complaint missing, unknown, differing;
  std::vector<std::pair<std::size_t, at::Tensor>> values;
  std::vector<SafetensorsFile> files;
  for (const std::filesystem::path& shard : shards_of(path)) files.push_back(SafetensorsFile::open(shard));
  // Everything is checked before anything is written.
  for (const SafetensorsFile& file : files)
    for (const auto& [name, view] : file.tensors()) {
      const auto at_place = place.find(name);
      if (at_place == place.end()) {
        if (!follows_from_others(name, tied_head)) unknown.add(name);
        continue;
      }
      const ParameterInfo& parameter = layout.parameters[at_place->second];
      if (view.shape != parameter.shape)
        differing.add(name + " is " + shape_text(view.shape) + ", the model's is " + shape_text(parameter.shape));
      else if (!type_of(view.dtype))
        differing.add(name + " is of type " + view.dtype);
      if (!found.insert(name).second) differing.add(name + " is in two shards");
    }
  PublishedParameters result;
  check_missing(layout, found, keep_missing_ttt, missing, result.kept);
  const std::string complaint =
      missing.text("missing: ") + unknown.text("not in the model: ") + differing.text("different: ");
  if (!complaint.empty())
    fail(path, "the checkpoint does not fit the model (see `model` in the experiment)" + complaint);
  for (const SafetensorsFile& file : files)
    for (const auto& [name, view] : file.tensors()) {
      const auto at_place = place.find(name);
      if (at_place == place.end()) continue;
      // Copied byte by byte: files from elsewhere need not be aligned.
      at::Tensor value = at::empty(view.shape, *type_of(view.dtype));
      if (!view.data.empty()) std::memcpy(value.mutable_data_ptr(), view.data.data(), view.data.size());
      state.parameters[at_place->second].copy_(value.unsqueeze(0).expand_as(state.parameters[at_place->second]));
    }
  return result;
}

}  // namespace tenfold
