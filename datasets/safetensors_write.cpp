#include <algorithm>
#include <nlohmann/json.hpp>

#include "datasets/safetensors.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/file_aside.h"

namespace tenfold {
namespace {

void require_sound(const std::filesystem::path& file, const std::string& name, const TensorView& view) {
  std::size_t bytes = dtype_bytes(view.dtype);
  bool sound = bytes != 0 && name != "__metadata__";
  for (const std::int64_t extent : view.shape) {
    sound = sound && extent >= 0;
    if (sound) bytes *= static_cast<std::size_t>(extent);
  }
  if (!sound || bytes != view.data.size())
    throw Error(ErrorKind::internal, file.string() + ": tensor '" + name + "' has data that do not fit its shape");
}

}  // namespace

Digest write_safetensors(const std::filesystem::path& file, const std::map<std::string, TensorView>& tensors,
                         const std::map<std::string, std::string>& metadata, bool sync) {
  // Widest elements first, so that without gaps, which the format forbids, each tensor begins at a multiple of its
  // element's size.
  std::vector<const std::pair<const std::string, TensorView>*> order;
  for (const auto& tensor : tensors) {
    require_sound(file, tensor.first, tensor.second);
    order.push_back(&tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return dtype_bytes(a->second.dtype) > dtype_bytes(b->second.dtype);
  });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const auto* tensor : order) {
    const TensorView& view = tensor->second;
    header[tensor->first] = {
        {"dtype", view.dtype}, {"shape", view.shape}, {"data_offsets", {offset, offset + view.data.size()}}};
    offset += view.data.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(ErrorKind::data, file.string() + ": a name or a text to be stored is not UTF-8");
  }
  while ((8 + text.size()) % 64 != 0) text += ' ';  // the format allows trailing spaces: data begin aligned
  unsigned char length[8];
  for (int i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(text.size() >> (8 * i));

  FileAside aside(file);
  Hasher hasher;
  const auto put = [&](const void* data, std::size_t bytes) {
    aside.write(data, bytes);
    hasher.update(data, bytes);
  };
  put(length, sizeof length);
  put(text.data(), text.size());
  fault_point("write");
  for (const auto* tensor : order)
    if (!tensor->second.data.empty()) put(tensor->second.data.data(), tensor->second.data.size());
  aside.commit(sync);
  return hasher.finish();
}

}  // namespace tenfold
