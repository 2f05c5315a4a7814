#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "datasets/safetensors.h"
#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/storage_advice.h"
#include "experiments/unique_fd.h"

namespace tenfold {
namespace {

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what) {
  throw storage_error(file, what, errno);
}

// A file under another name beside its target, removed unless commit() gave it its name.
class FileAside {
 public:
  explicit FileAside(const std::filesystem::path& target) : target_(target), aside_(target) {
    static std::atomic<unsigned> counter{0};  // threads of one process may write the same target
    aside_ += ".tmp." + std::to_string(::getpid()) + "." + std::to_string(counter++);
    fd_ = UniqueFd(::open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd_) fail(target_, "cannot be written");
  }
  ~FileAside() {
    if (!committed_) ::unlink(aside_.c_str());
  }
  FileAside(const FileAside&) = delete;
  FileAside& operator=(const FileAside&) = delete;

  void write(const void* data, std::size_t bytes) {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(fd_.get(), at, std::min<std::size_t>(bytes, std::size_t{1} << 30));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail(target_, "cannot be written");
      at += written;
      bytes -= static_cast<std::size_t>(written);
    }
  }

  void commit(bool sync) {
    if (sync && ::fsync(fd_.get()) != 0) fail(target_, "cannot be brought to the disk");
    if (::close(fd_.release()) != 0) fail(target_, "cannot be written");
    fault_point("rename");
    if (::rename(aside_.c_str(), target_.c_str()) != 0) fail(target_, "cannot be given its name");
    committed_ = true;
    fault_point("renamed");
    if (sync) sync_folder();
  }

 private:
  void sync_folder() const {
    const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : ".";
    const UniqueFd opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!opened) fail(folder, "cannot be opened");
    // Some network file systems know no fsync of a folder; there the rename itself is what they offer.
    if (::fsync(opened.get()) != 0 && errno != EINVAL && errno != ENOTSUP)
      fail(folder, "cannot be brought to the disk");
  }

  std::filesystem::path target_, aside_;
  UniqueFd fd_;
  bool committed_ = false;
};

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
