#include "tests/fuzz/input_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace tenfold::fuzz {

InputFile::InputFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(fd_)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
}

InputFile::InputFile(std::string_view content) : InputFile() { write(std::as_bytes(std::span(content))); }

InputFile::~InputFile() { ::close(fd_); }

void InputFile::write(Input content) const {
  if (::ftruncate(fd_, 0) != 0 ||
      (!content.empty() && ::pwrite(fd_, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())))
    throw std::system_error(errno, std::generic_category(), "writing the input");
}

bool read_or_told(std::string_view place, const std::function<void()>& read, std::initializer_list<ErrorKind> kinds) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    const std::string_view words = error.what();
    if (std::find(kinds.begin(), kinds.end(), error.kind()) == kinds.end())
      throw std::logic_error("an error of kind " + std::string(to_string(error.kind())) + ": " + error.what());
    if (words.empty() || words.find(place) == std::string_view::npos)
      throw std::logic_error("an error that does not name its place: " + std::string(words));
    return false;
  }
}

}  // namespace tenfold::fuzz
