#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Reading of source files, with every library's and the system's error told as Error(data).
namespace tenfold {

// A regular file mapped read-only for as long as a copy of `owner` lives.
struct MappedFile {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};
MappedFile map_file(const std::filesystem::path& file);

bool is_gzip(std::span<const std::byte> bytes);

// Inflates a gzip file of one or more members. More than `limit` bytes is an Error: a small hostile file can
// inflate to a thousand times its size. `name` is what messages call it.
std::vector<std::byte> gunzip(std::span<const std::byte> compressed, std::uint64_t limit, const std::string& name);

// The first bytes of a gzip file, at most `count`: enough to read a header that tells how large the rest is.
std::vector<std::byte> gunzip_begin(std::span<const std::byte> compressed, std::size_t count, const std::string& name);

// Inflates a raw deflate stream that must give exactly `size` bytes.
std::vector<std::byte> inflate_raw(std::span<const std::byte> compressed, std::uint64_t size, const std::string& name);

std::uint32_t crc32_of(std::span<const std::byte> bytes);

}  // namespace tenfold
