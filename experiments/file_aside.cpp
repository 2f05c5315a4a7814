#include "experiments/file_aside.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "experiments/error.h"
#include "experiments/fault_point.h"
#include "experiments/random_name.h"
#include "experiments/storage_advice.h"

namespace tenfold {
namespace {

[[noreturn]] void fail(const std::filesystem::path& file, const std::string& what) {
  throw storage_error(file, what, errno);
}

}  // namespace

void sync_folder_of(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  const UniqueFd opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) fail(folder, "cannot be opened");
  // Some network file systems know no fsync of a folder; there the rename itself is what they offer.
  if (::fsync(opened.get()) != 0 && errno != EINVAL && errno != ENOTSUP) fail(folder, "cannot be brought to the disk");
}

FileAside::FileAside(const std::filesystem::path& target) : target_(target), aside_(target) {
  aside_ += ".tmp." + random_name();  // others may write the same target
  fd_ = UniqueFd(::open(aside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd_) fail(target_, "cannot be written");
}

FileAside::~FileAside() {
  if (!committed_) ::unlink(aside_.c_str());
}

void FileAside::write(const void* data, std::size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(fd_.get(), at, std::min<std::size_t>(bytes, std::size_t{1} << 30));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(target_, "cannot be written");
    at += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void FileAside::commit(bool sync) {
  if (sync && ::fsync(fd_.get()) != 0) fail(target_, "cannot be brought to the disk");
  if (::close(fd_.release()) != 0) fail(target_, "cannot be written");
  fault_point("rename");
  if (::rename(aside_.c_str(), target_.c_str()) != 0) fail(target_, "cannot be given its name");
  committed_ = true;
  fault_point("renamed");
  if (sync) sync_folder_of(target_);
}

}  // namespace tenfold
