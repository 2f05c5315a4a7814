#include "tests/faults/small_disk.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <vector>

namespace tenfold {
namespace {

constexpr const char* kBallast = "ballast";

}  // namespace

SmallDisk::SmallDisk(const std::filesystem::path& folder, std::size_t bytes) : folder_(folder) {
  std::filesystem::create_directories(folder);
  const std::string options = "size=" + std::to_string(bytes);
  mounted_ = ::mount("tenfold-test", folder.c_str(), "tmpfs", 0, options.c_str()) == 0;
}

SmallDisk::~SmallDisk() {
  if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
}

void SmallDisk::fill() const {
  const int fd = ::open((folder_ / kBallast).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;
  const std::vector<char> block(1 << 16, 'x');
  for (std::size_t size = block.size(); size > 0;)
    if (::write(fd, block.data(), size) <= 0) size /= 2;
  ::close(fd);
}

void SmallDisk::free() const { ::unlink((folder_ / kBallast).c_str()); }

bool SmallDisk::make_read_only(bool read_only) const {
  return ::mount(nullptr, folder_.c_str(), nullptr, MS_REMOUNT | (read_only ? MS_RDONLY : 0), nullptr) == 0;
}

}  // namespace tenfold
