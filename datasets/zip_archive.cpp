#include "datasets/zip_archive.h"

#include <algorithm>

#include "datasets/file_content.h"
#include "experiments/error.h"

// Structures and their signatures as in PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3.
namespace tenfold {
namespace {

constexpr std::uint64_t kEndBytes = 22, kLocatorBytes = 20, kEnd64Bytes = 56, kEntryBytes = 46, kLocalBytes = 30;
constexpr std::uint32_t kEndSign = 0x06054B50, kLocatorSign = 0x07064B50, kEnd64Sign = 0x06064B50;
constexpr std::uint32_t kEntrySign = 0x02014B50, kLocalSign = 0x04034B50;
constexpr std::uint64_t kMaxCommentBytes = 0xFFFF;
constexpr std::uint32_t kIn64 = 0xFFFFFFFF;  // the value is in the zip64 structure

}  // namespace

ZipArchive::ZipArchive(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {
  read_directory(find_directory());
}

void ZipArchive::fail(const std::string& what) const {
  throw Error(ErrorKind::data, name_ + ": not a sound zip (npz) file: " + what);
}

std::span<const std::byte> ZipArchive::slice(std::uint64_t offset, std::uint64_t bytes) const {
  if (offset > bytes_.size() || bytes > bytes_.size() - offset) fail("it is cut off, or points outside itself");
  return bytes_.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(bytes));
}

std::uint64_t ZipArchive::integer(std::uint64_t offset, int bytes) const {
  const auto place = slice(offset, static_cast<std::uint64_t>(bytes));
  std::uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i)
    value = (value << 8) | std::to_integer<std::uint64_t>(place[static_cast<std::size_t>(i)]);
  return value;
}

ZipArchive::Directory ZipArchive::find_directory() const {
  if (bytes_.size() < kEndBytes) fail("it is too short");
  const std::uint64_t last = bytes_.size() - kEndBytes;
  const std::uint64_t first = last > kMaxCommentBytes ? last - kMaxCommentBytes : 0;
  for (std::uint64_t end = last;; --end) {
    // The comment behind the structure must reach to the end of the file: else the signature is chance.
    if (integer(end, 4) == kEndSign && end + kEndBytes + integer(end + 20, 2) == bytes_.size()) {
      Directory directory{integer(end + 16, 4), integer(end + 12, 4), integer(end + 10, 2)};
      if (end >= kLocatorBytes && integer(end - kLocatorBytes, 4) == kLocatorSign) {
        const std::uint64_t end64 = integer(end - kLocatorBytes + 8, 8);
        slice(end64, kEnd64Bytes);
        if (integer(end64, 4) != kEnd64Sign) fail("its zip64 end is not where it says");
        directory = {integer(end64 + 48, 8), integer(end64 + 40, 8), integer(end64 + 32, 8)};
      }
      return directory;
    }
    if (end == first) fail("its directory is missing; the file may be cut off");
  }
}

void ZipArchive::read_directory(Directory directory) {
  slice(directory.offset, directory.bytes);
  std::uint64_t at = directory.offset;
  const std::uint64_t end = directory.offset + directory.bytes;
  if (directory.members > directory.bytes / kEntryBytes) fail("its directory is too short for its members");
  for (std::uint64_t i = 0; i < directory.members; ++i) {
    if (integer(at, 4) != kEntrySign) fail("its directory is damaged");
    const std::uint64_t name_bytes = integer(at + 28, 2), extra_bytes = integer(at + 30, 2),
                        comment_bytes = integer(at + 32, 2);
    Member member;
    const auto name = slice(at + kEntryBytes, name_bytes);
    member.name.assign(reinterpret_cast<const char*>(name.data()), name.size());
    member.flags = static_cast<std::uint16_t>(integer(at + 8, 2));
    member.method = static_cast<std::uint16_t>(integer(at + 10, 2));
    member.crc = static_cast<std::uint32_t>(integer(at + 16, 4));
    member.compressed_bytes = integer(at + 20, 4);
    member.bytes = integer(at + 24, 4);
    member.header_offset = integer(at + 42, 4);
    const std::uint64_t extra = at + kEntryBytes + name_bytes;
    slice(extra, extra_bytes);
    read_zip64_extra(extra, extra + extra_bytes, member);
    members_.push_back(std::move(member));
    at = extra + extra_bytes + comment_bytes;
    if (at > end) fail("its directory is damaged");
  }
}

void ZipArchive::read_zip64_extra(std::uint64_t offset, std::uint64_t end, Member& member) const {
  while (offset + 4 <= end) {
    const std::uint64_t id = integer(offset, 2), bytes = integer(offset + 2, 2);
    std::uint64_t at = offset + 4;
    if (at + bytes > end) return;  // other programs' fields may be of any form
    if (id == 1) {
      const std::uint64_t field_end = at + bytes;
      for (std::uint64_t* value : {&member.bytes, &member.compressed_bytes, &member.header_offset}) {
        if (*value != kIn64) continue;
        if (at + 8 > field_end) fail("its zip64 sizes are missing");
        *value = integer(at, 8);
        at += 8;
      }
      return;
    }
    offset = at + bytes;
  }
}

std::vector<std::string> ZipArchive::names() const {
  std::vector<std::string> result;
  for (const Member& member : members_) result.push_back(member.name);
  return result;
}

bool ZipArchive::contains(const std::string& name) const {
  return std::any_of(members_.begin(), members_.end(), [&](const Member& member) { return member.name == name; });
}

std::vector<std::byte> ZipArchive::read(const std::string& name) const {
  const auto found =
      std::find_if(members_.begin(), members_.end(), [&](const Member& member) { return member.name == name; });
  if (found == members_.end()) throw Error(ErrorKind::data, name_ + ": holds no '" + name + "'");
  const std::string where = name_ + ": '" + name + "'";
  if ((found->flags & 1) != 0) throw Error(ErrorKind::data, where + " is encrypted; write it without a password");
  if (integer(found->header_offset, 4) != kLocalSign) fail("'" + name + "' is not where the directory says");
  // Names and extra fields may differ in length from the directory's: only these tell where the data begin.
  const std::uint64_t begin = found->header_offset + kLocalBytes + integer(found->header_offset + 26, 2) +
                              integer(found->header_offset + 28, 2);
  const auto stored = slice(begin, found->compressed_bytes);
  std::vector<std::byte> content;
  if (found->method == 8) {
    content = inflate_raw(stored, found->bytes, where);
  } else if (found->method == 0) {
    if (found->bytes != found->compressed_bytes) fail("'" + name + "' has two different sizes");
    content.assign(stored.begin(), stored.end());
  } else {
    throw Error(ErrorKind::data, where + " is compressed in an unknown way (method " + std::to_string(found->method) +
                                     "); numpy.savez and savez_compressed write what is known");
  }
  if (crc32_of(content) != found->crc) throw Error(ErrorKind::data, where + " is damaged: its checksum differs");
  return content;
}

}  // namespace tenfold
