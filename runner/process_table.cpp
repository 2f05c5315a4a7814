#include "runner/process_table.h"

#include <cctype>
#include <cstdio>
#include <filesystem>
#include <string>

#include "experiments/file_text.h"

namespace tenfold {
namespace {

struct Entry {
  pid_t pid = 0, parent = 0, session = 0;
};

// Calls `take(entry)` for every live process; processes come and go meanwhile.
template <class Take>
void each_process(Take take) {
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0])) == 0) continue;
    const std::string text = file_text(it->path() / "stat").value_or("");
    // "pid (name) state ppid pgrp session ...", and the name may hold anything.
    const std::size_t after_name = text.rfind(')');
    char state = 'Z';
    int parent = 0, group = 0, session = 0;
    if (after_name == std::string::npos ||
        std::sscanf(text.c_str() + after_name + 1, " %c %d %d %d", &state, &parent, &group, &session) != 4)
      continue;
    if (state != 'Z' && state != 'X') take(Entry{static_cast<pid_t>(std::stol(name)), parent, session});
  }
}

}  // namespace

int live_children(pid_t parent) {
  int count = 0;
  each_process([&](const Entry& entry) { count += entry.parent == parent ? 1 : 0; });
  return count;
}

bool has_children(pid_t parent) { return live_children(parent) > 0; }

std::vector<pid_t> processes_of_session(pid_t session) {
  std::vector<pid_t> found;
  each_process([&](const Entry& entry) {
    if (entry.session == session) found.push_back(entry.pid);
  });
  return found;
}

}  // namespace tenfold
