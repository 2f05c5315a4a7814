#include "datasets/file_collection.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "datasets/file_content.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

using Visit = std::function<void(const FoundFile&)>;

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::data, where + ": " + what);
}

bool wanted(std::string_view name, std::span<const std::string_view> endings) {
  name.remove_prefix(std::min(name.size(), name.rfind('/') + 1));  // npos + 1 is 0
  if (name.starts_with('.')) return false;                         // macOS archives carry ._name.wav beside name.wav
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) {
    return name.size() > ending.size() &&
           std::equal(ending.begin(), ending.end(), name.end() - static_cast<std::ptrdiff_t>(ending.size()),
                      [&](char a, char b) { return a == lower(b); });
  });
}

[[noreturn]] void too_large(const std::string& where, std::uint64_t limit) {
  fail(where, "is larger than the " + std::to_string(limit) + " bytes that one file may have");
}

void visit_folder(const std::filesystem::path& folder, std::span<const std::string_view> endings, const Visit& visit,
                  const CollectionLimits& limits) {
  std::error_code error;
  std::filesystem::recursive_directory_iterator at(folder, error), end;
  for (; !error && at != end; at.increment(error)) {
    const std::string name = at->path().lexically_relative(folder).string();
    std::error_code ignored;
    if (at->is_directory(ignored) || !wanted(name, endings)) continue;
    const MappedFile mapped = map_file(at->path());
    if (mapped.bytes.size() > limits.file_bytes) too_large(at->path().string(), limits.file_bytes);
    visit({name, at->path().string(), mapped.bytes});
  }
  if (error) fail(folder.string(), "cannot be listed: " + error.message());
}

struct CloseArchive {
  void operator()(archive* handle) const { archive_read_free(handle); }
};

class TarReader {
 public:
  TarReader(std::span<const std::byte> bytes, std::string name) : name_(std::move(name)), handle_(archive_read_new()) {
    if (handle_ == nullptr) throw std::bad_alloc();
    archive* const a = handle_.get();
    archive_read_support_filter_gzip(a);
    archive_read_support_filter_bzip2(a);
    archive_read_support_filter_xz(a);
    archive_read_support_filter_zstd(a);
    archive_read_support_format_tar(a);
    if (archive_read_open_memory(a, bytes.data(), bytes.size()) != ARCHIVE_OK) broken();
  }

  // The next entry, or nothing at the end.
  archive_entry* next() {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(handle_.get(), &entry);
    if (status == ARCHIVE_EOF) return nullptr;
    if (status < ARCHIVE_WARN) broken();  // a warning: a name that the locale cannot show
    return entry;
  }

  // What the entry holds, as it comes: the size that it claims is not believed.
  std::span<const std::byte> read(const std::string& where, std::uint64_t limit) {
    constexpr std::size_t kPiece = std::size_t{1} << 16;
    std::size_t filled = 0;
    for (;;) {
      if (content_.size() < filled + kPiece) content_.resize(std::max(2 * filled, filled + kPiece));
      const la_ssize_t got = archive_read_data(handle_.get(), content_.data() + filled, content_.size() - filled);
      if (got < 0) broken();
      if (got == 0) return std::span(content_).first(filled);
      filled += static_cast<std::size_t>(got);
      if (filled > limit) too_large(where, limit);
    }
  }

 private:
  [[noreturn]] void broken() const {
    const char* reason = archive_error_string(handle_.get());
    std::string told = reason == nullptr ? "no reason given" : reason;
    std::replace(told.begin(), told.end(), '\n', ' ');
    fail(name_, "is no folder, and cannot be read as a tar archive (plain, gzip, bzip2, xz or zstd): " + told);
  }

  std::string name_;
  std::unique_ptr<archive, CloseArchive> handle_;
  std::vector<std::byte> content_;
};

std::string name_of(archive_entry* entry) {
  if (const char* name = archive_entry_pathname_utf8(entry); name != nullptr) return name;
  if (const char* name = archive_entry_pathname(entry); name != nullptr) return name;
  return {};
}

void visit_archive(const std::filesystem::path& path, std::span<const std::string_view> endings, const Visit& visit,
                   const CollectionLimits& limits) {
  const MappedFile mapped = map_file(path);
  TarReader reader(mapped.bytes, path.string());
  std::uint64_t total = 0;
  while (archive_entry* const entry = reader.next()) {
    const std::string name = name_of(entry), where = path.string() + ": " + name;
    // Also of entries that are passed over, because the whole archive must be unpacked up to the last one.
    total += static_cast<std::uint64_t>(std::max<la_int64_t>(archive_entry_size(entry), 0));
    if (total > limits.archive_bytes)
      fail(where, "with the files before it is more than the " + std::to_string(limits.archive_bytes) +
                      " bytes that an archive may hold");
    if (archive_entry_filetype(entry) == AE_IFDIR || !wanted(name, endings)) continue;
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != nullptr)
      fail(where, "is a link or a device, not a file; pack the archive with tar --dereference --hard-dereference");
    if (archive_entry_size(entry) > static_cast<la_int64_t>(limits.file_bytes)) too_large(where, limits.file_bytes);
    visit({name, where, reader.read(where, limits.file_bytes)});
  }
}

}  // namespace

void for_each_file(const std::filesystem::path& path, std::span<const std::string_view> endings, const Visit& visit,
                   const CollectionLimits& limits) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    visit_folder(path, endings, visit, limits);
  else
    visit_archive(path, endings, visit, limits);
}

}  // namespace tenfold
