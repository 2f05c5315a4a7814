#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tenfold {

// The members of a zip file in memory (stored or deflated; zip64), as numpy writes an npz. Every place and size
// is checked against the file before use. Throws Error(data).
class ZipArchive {
 public:
  ZipArchive(std::span<const std::byte> bytes, std::string name);  // name: what messages call the file
  std::vector<std::string> names() const;
  bool contains(const std::string& member) const;
  std::vector<std::byte> read(const std::string& member) const;  // checks its CRC

 private:
  struct Member {
    std::string name;
    std::uint64_t compressed_bytes, bytes, header_offset;
    std::uint32_t crc;
    std::uint16_t method, flags;
  };
  struct Directory {
    std::uint64_t offset, bytes, members;
  };

  [[noreturn]] void fail(const std::string& what) const;
  std::uint64_t integer(std::uint64_t offset, int bytes) const;  // little-endian; checks the place
  std::span<const std::byte> slice(std::uint64_t offset, std::uint64_t bytes) const;
  Directory find_directory() const;
  void read_directory(Directory directory);
  void read_zip64_extra(std::uint64_t offset, std::uint64_t end, Member& member) const;

  std::span<const std::byte> bytes_;
  std::string name_;
  std::vector<Member> members_;
};

}  // namespace tenfold
