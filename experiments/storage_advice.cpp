#include "experiments/storage_advice.h"

#include <cerrno>
#include <cstring>

namespace tenfold {

std::string storage_advice(int code) {
  switch (code) {
    case ENOSPC:
    case EDQUOT:
      return "free some space there and run the same command again; nothing committed is lost";
    case EROFS:
      return "the file system is mounted read-only: make it writable, then run the same command again";
    case EACCES:
    case EPERM:
      return "check the permissions of the file and its folder, then run the same command again";
    case ENOENT:
    case ENOTDIR:
      return "check that the folder exists and may be written";
    default:
      return "check the disk and the file system, then run the same command again";
  }
}

Error storage_error(const std::filesystem::path& file, const std::string& what, int code) {
  return {ErrorKind::storage, file.string() + ": " + what + ": " + std::strerror(code) + "; " + storage_advice(code)};
}

}  // namespace tenfold
