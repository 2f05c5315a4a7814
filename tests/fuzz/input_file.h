#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include "experiments/error.h"
#include "tests/fuzz/targets.h"

namespace tenfold::fuzz {

// A file in the folder of temporary files that is written again and again, for readers that take a path. In a folder
// without a disk under it ($TMPDIR on a tmpfs) that takes microseconds. Its name begins with "fuzz-".
class InputFile {
 public:
  InputFile();
  explicit InputFile(std::string_view content);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  void write(Input content) const;

 private:
  int fd_;
  std::string path_;
};

// Runs `read`. True where it returns; false where it throws an Error of one of these kinds whose words name `place`.
// Throws std::logic_error on an Error of another kind or without the place; lets other exceptions through.
bool read_or_told(std::string_view place, const std::function<void()>& read,
                  std::initializer_list<ErrorKind> kinds = {ErrorKind::data, ErrorKind::config});

// The words of the latest Error that read_or_told() met.
const std::string& latest_words();

inline std::string_view text_of(Input input) { return {reinterpret_cast<const char*>(input.data()), input.size()}; }

}  // namespace tenfold::fuzz
