#include "db/file_system.h"

#include <sys/statfs.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>

#include "experiments/error.h"
#include "experiments/storage_advice.h"

namespace tenfold {

FileSystem file_system_of(const std::filesystem::path& file) {
  // FUSE counts as a network: GlusterFS, sshfs and many others hide behind it.
  static const std::map<std::uint32_t, FileSystem> kinds = {
      {0x6969, {"NFS", true}},        {0x0BD00BD0, {"Lustre", true}},   {0x47504653, {"GPFS", true}},
      {0xFF534D42, {"CIFS", true}},   {0xFE534D42, {"SMB", true}},      {0x517B, {"SMB", true}},
      {0x19830326, {"BeeGFS", true}}, {0x00C36400, {"Ceph", true}},     {0x5346414F, {"AFS", true}},
      {0x6B414653, {"AFS", true}},    {0x01021997, {"9p", true}},       {0x65735546, {"FUSE", true}},
      {0xAAD7AAEA, {"PanFS", true}},  {0x20030528, {"OrangeFS", true}}, {0x7461636F, {"OCFS2", true}},
      {0x01161970, {"GFS2", true}},   {0x73757245, {"Coda", true}},     {0x564C, {"NCP", true}},
      {0xEF53, {"ext4", false}},      {0x58465342, {"XFS", false}},     {0x9123683E, {"Btrfs", false}},
      {0x2FC12FC1, {"ZFS", false}},   {0x01021994, {"tmpfs", false}},   {0x794C7630, {"overlayfs", false}},
      {0xF2F52010, {"F2FS", false}},
  };
  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(file, error).parent_path();
  struct statfs info {};
  while (::statfs(folder.c_str(), &info) != 0 && folder.has_relative_path()) folder = folder.parent_path();
  const auto found = kinds.find(static_cast<std::uint32_t>(info.f_type));
  return found == kinds.end() ? FileSystem{"a file system of an unknown kind", false} : found->second;
}

bool is_store_published(const std::filesystem::path& db) {
  const char* text = std::getenv("TENFOLD_PUBLISH");
  const std::string wanted = text && *text ? text : "auto";
  if (wanted == "always") return true;
  if (wanted == "never") return false;
  if (wanted != "auto")
    throw Error(ErrorKind::config, "TENFOLD_PUBLISH=" + wanted + ": known are auto, always and never");
  return file_system_of(db).network;
}

bool is_store_there(const std::filesystem::path& db) {
  std::error_code error;
  const bool there = std::filesystem::exists(db, error);
  if (error) throw storage_error(db, "the store cannot be looked at", error.value());
  return there;
}

bool has_write_ahead_log(const std::filesystem::path& db) {
  std::error_code error;
  if (std::filesystem::exists(db.string() + "-wal", error)) return true;
  std::ifstream in(db, std::ios::binary);
  in.seekg(kSqliteVersionBytes);
  return in.get() == 2;
}

}  // namespace tenfold
