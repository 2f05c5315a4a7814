#include "tests/fuzz/input_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <stdexcept>
#include <system_error>

namespace tenfold::fuzz {

InputFile::InputFile() : path_((std::filesystem::temp_directory_path() / "fuzz-XXXXXX").string()) {
  fd_ = ::mkostemp(path_.data(), O_CLOEXEC);
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), path_);
}

InputFile::InputFile(std::string_view content) : InputFile() { write(std::as_bytes(std::span(content))); }

InputFile::~InputFile() {
  ::close(fd_);
  ::unlink(path_.c_str());
}

void InputFile::write(Input content) const {
  if (::ftruncate(fd_, 0) != 0 ||
      (!content.empty() && ::pwrite(fd_, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())))
    throw std::system_error(errno, std::generic_category(), "writing the input");
}

namespace {
std::string words_of_latest;
}
const std::string& latest_words() { return words_of_latest; }

bool read_or_told(std::string_view place, const std::function<void()>& read, std::initializer_list<ErrorKind> kinds) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    const std::string& words = words_of_latest = error.what();
    if (std::find(kinds.begin(), kinds.end(), error.kind()) == kinds.end())
      throw std::logic_error("an error of kind " + std::string(to_string(error.kind())) + ": " + error.what());
    if (words.empty() || words.find(place) == std::string::npos)
      throw std::logic_error("an error that does not name its place: " + words);
    return false;
  }
}

}  // namespace tenfold::fuzz
