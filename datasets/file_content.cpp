#include "datasets/file_content.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "experiments/error.h"
#include "experiments/unique_fd.h"

namespace tenfold {
namespace {

class Inflater {
 public:
  // window_bits as zlib has it: 31 for gzip, -15 for raw deflate.
  Inflater(int window_bits, std::span<const std::byte> input, std::string name) : rest_(input), name_(std::move(name)) {
    if (inflateInit2(&stream_, window_bits) != Z_OK) throw Error(ErrorKind::internal, "zlib could not start");
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Fills `out` as far as the current member reaches; tells how much. finished() says whether the member has ended.
  std::size_t read(std::span<std::byte> out) {
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    std::size_t left = out.size();
    while (left > 0 && !finished_) {
      feed();
      stream_.avail_out = static_cast<uInt>(std::min<std::size_t>(left, kPiece));
      const uInt before = stream_.avail_out;
      const int status = inflate(&stream_, Z_NO_FLUSH);
      left -= before - stream_.avail_out;
      if (status == Z_STREAM_END)
        finished_ = true;
      else if (status == Z_MEM_ERROR)
        throw std::bad_alloc();
      else if (status != Z_OK)  // Z_BUF_ERROR too: there is room, so the input has ended too early
        throw Error(ErrorKind::data, name_ + ": the compressed data are cut off or damaged; fetch the file again");
    }
    return out.size() - left;
  }
  bool finished() const { return finished_; }
  std::size_t remaining_input() const { return stream_.avail_in + rest_.size(); }
  unsigned char next_byte() const {
    return stream_.avail_in > 0 ? *stream_.next_in : static_cast<unsigned char>(rest_.front());
  }
  void next_member() {
    inflateReset(&stream_);
    finished_ = false;
  }

 private:
  static constexpr std::size_t kPiece = std::size_t{1} << 30;  // zlib counts in 32 bits

  void feed() {
    if (stream_.avail_in > 0) return;
    const std::size_t piece = std::min(rest_.size(), kPiece);
    stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(rest_.data()));
    stream_.avail_in = static_cast<uInt>(piece);
    rest_ = rest_.subspan(piece);
  }

  z_stream stream_{};
  std::span<const std::byte> rest_;
  std::string name_;
  bool finished_ = false;
};

}  // namespace

MappedFile map_file(const std::filesystem::path& file) {
  const auto fail = [&](const std::string& what) { throw Error(ErrorKind::data, file.string() + ": " + what); };
  // O_NONBLOCK: opening a named pipe by mistake must not wait for a writer.
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) fail(std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail(std::string("cannot be examined: ") + std::strerror(errno));
  if (S_ISDIR(status.st_mode)) fail("is a folder, not a file");
  if (!S_ISREG(status.st_mode)) fail("is not a regular file");
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes == 0) return {};
  void* address = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (address == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(errno));
  MappedFile mapped;
  mapped.owner =
      std::shared_ptr<const void>(address, [bytes](const void* begin) { ::munmap(const_cast<void*>(begin), bytes); });
  mapped.bytes = {static_cast<const std::byte*>(address), bytes};
  return mapped;
}

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1F} && bytes[1] == std::byte{0x8B};
}

std::vector<std::byte> gunzip(std::span<const std::byte> compressed, std::uint64_t limit, const std::string& name) {
  Inflater inflater(31, compressed, name);
  std::vector<std::byte> out;
  std::size_t filled = 0;
  for (;;) {
    if (filled == out.size()) {
      // One byte over the limit is room enough to see that it is exceeded.
      const std::uint64_t wanted =
          std::max<std::uint64_t>({std::uint64_t{1} << 16, 2 * out.size(), 4 * compressed.size()});
      out.resize(static_cast<std::size_t>(
          std::min(out.empty() ? wanted : std::max<std::uint64_t>(wanted, filled + 1), limit + 1)));
    }
    filled += inflater.read(std::span(out).subspan(filled));
    if (filled > limit)
      throw Error(ErrorKind::data,
                  name + ": inflates to more than the " + std::to_string(limit) + " bytes that it may hold");
    if (!inflater.finished()) continue;
    if (inflater.remaining_input() == 0) break;
    if (inflater.next_byte() != 0x1F) throw Error(ErrorKind::data, name + ": something follows the compressed data");
    inflater.next_member();
  }
  out.resize(filled);
  return out;
}

std::vector<std::byte> gunzip_begin(std::span<const std::byte> compressed, std::size_t count, const std::string& name) {
  Inflater inflater(31, compressed, name);
  std::vector<std::byte> out(count);
  std::size_t filled = inflater.read(out);
  while (filled < count && inflater.remaining_input() > 0 && inflater.next_byte() == 0x1F) {
    inflater.next_member();
    filled += inflater.read(std::span(out).subspan(filled));
  }
  out.resize(filled);
  return out;
}

std::vector<std::byte> inflate_raw(std::span<const std::byte> compressed, std::uint64_t size, const std::string& name) {
  // Deflate's best ratio is 1032; a size beyond it is a lie, found before memory is taken for it.
  if (size / 1032 > compressed.size() + 1)
    throw Error(ErrorKind::data, name + ": claims " + std::to_string(size) + " bytes, more than its " +
                                     std::to_string(compressed.size()) + " compressed bytes can hold");
  Inflater inflater(-15, compressed, name);
  std::vector<std::byte> out(static_cast<std::size_t>(size));
  std::size_t filled = inflater.read(out);
  if (filled == out.size() && !inflater.finished()) {
    std::byte extra;  // the end mark may still be to come, but no data
    if (inflater.read({&extra, 1}) != 0) ++filled;
  }
  if (filled != out.size() || !inflater.finished())
    throw Error(ErrorKind::data, name + ": does not hold the " + std::to_string(size) + " bytes that it claims");
  return out;
}

std::uint32_t crc32_of(std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace tenfold
