#include "datasets/sample_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "experiments/error.h"
#include "experiments/unique_fd.h"

namespace tenfold {
namespace {

[[noreturn]] void fail(const std::filesystem::path& folder, const std::string& what, int code) {
  throw Error(ErrorKind::storage,
              folder.string() + ": " + what + ": " + std::strerror(code) + "; set TENFOLD_CACHE to a folder with room");
}

UniqueFd open_nameless(const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) fail(folder, "cannot be made", code.value());
  UniqueFd fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd) return fd;
  std::string pattern = (folder / "loading-XXXXXX").string();  // network file systems know no files without a name
  fd = UniqueFd(::mkostemp(pattern.data(), O_CLOEXEC));
  if (!fd) fail(folder, "cannot hold a file for the samples", errno);
  ::unlink(pattern.c_str());
  return fd;
}

std::uint64_t quarter_of_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES), page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return UINT64_MAX;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes) / 4;
}

}  // namespace

SampleStore::SampleStore(std::int64_t values, const std::string& name)
    : SampleStore(values, name, quarter_of_memory()) {}

SampleStore::SampleStore(std::int64_t values, const std::string& name, std::uint64_t memory_bytes) {
  constexpr std::int64_t kMaxValues = std::int64_t{1} << 44;
  if (values < 1 || values > kMaxValues)
    throw Error(ErrorKind::data, name + ": " + std::to_string(values) + " values cannot be held");
  const std::size_t bytes = static_cast<std::size_t>(values) * sizeof(float);
  on_disk_ = bytes > memory_bytes;
  UniqueFd file;
  if (on_disk_) {
    const std::filesystem::path folder = cache_folder();
    file = open_nameless(folder);
    // Taken now: where the disk is full, a page written through the mapping would end the process.
    if (const int code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(bytes)); code != 0)
      fail(folder, "has no room for the " + std::to_string((bytes >> 20) + 1) + " MiB of " + name, code);
  } else {
    // Memory that has a descriptor, so that it can be handed to another process.
    file = UniqueFd(::memfd_create("samples", MFD_CLOEXEC));
    if (!file || ::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) throw std::bad_alloc();
  }
  map(std::move(file), values);
}

SampleStore::SampleStore(UniqueFd file, std::int64_t values, const std::string& name) {
  struct stat held = {};
  if (!file || ::fstat(file.get(), &held) != 0 || values < 1 ||
      held.st_size / static_cast<off_t>(sizeof(float)) < values)
    throw Error(ErrorKind::data, name + ": its values were not handed over by the process that read it");
  map(std::move(file), values);
}

void SampleStore::map(UniqueFd file, std::int64_t values) {
  const std::size_t bytes = static_cast<std::size_t>(values) * sizeof(float);
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  fd_ = file.get();
  owner_ = std::shared_ptr<void>(
      memory, [bytes, held = std::make_shared<UniqueFd>(std::move(file))](void* mapped) { ::munmap(mapped, bytes); });
  values_ = {static_cast<float*>(memory), static_cast<std::size_t>(values)};
}

void SampleStore::give_to(Dataset::Parts& parts) && {
  parts.stored_samples = values_;
  parts.stored_owner = std::move(owner_);
  parts.stored_fd = fd_;
  values_ = {};
}

}  // namespace tenfold
