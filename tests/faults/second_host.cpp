#include "tests/faults/second_host.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace tenfold {
namespace {

struct Answer {
  int status = -1;
  std::string text;
};

Answer ask(const std::string& line) {
  Answer answer;
  FILE* pipe = ::popen((line + " 2>&1").c_str(), "r");
  if (!pipe) return answer;
  std::array<char, 512> block{};
  while (const std::size_t got = std::fread(block.data(), 1, block.size(), pipe)) answer.text.append(block.data(), got);
  answer.status = ::pclose(pipe);
  return answer;
}

}  // namespace

SecondHost::SecondHost(Workspace& workspace) {
  const int pid = ::getpid();
  const std::string number = std::to_string(pid);
  name_ = "tenfold" + number;
  here_ = "tf" + number + "a";
  there_ = "tf" + number + "b";
  // A net of its own for every test process.
  net_ = "10." + std::to_string(64 + ((pid >> 8) & 63)) + "." + std::to_string(pid & 255) + ".";
  const bool up = command("ip netns add " + name_) &&
                  command("ip link add " + here_ + " type veth peer name " + there_ + " netns " + name_) &&
                  command("ip addr add " + net_ + "1/24 dev " + here_) && command("ip link set " + here_ + " up") &&
                  command("ip -n " + name_ + " addr add " + net_ + "2/24 dev " + there_) &&
                  command("ip -n " + name_ + " link set " + there_ + " up") &&
                  command("ip -n " + name_ + " link set lo up") &&
                  command("ip netns exec " + name_ + " unshare --uts hostname far");
  if (!up) return;

  // As ssh: the command line is read by a shell over there, which knows nothing of our environment; sanitizers report
  // from there, too.
  std::string options;
  for (const std::string name : {"ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS"})
    if (std::getenv(name.c_str())) options += name + "=\"$" + name + "\" ";
  workspace.write("agent", "#!/bin/sh\nshift\nexec ip netns exec " + name_ +
                               " unshare --uts env -i PATH=\"$PATH\" HOME=\"$HOME\" OMPI_ALLOW_RUN_AS_ROOT=1 "
                               "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TENFOLD_TEST_MARK=\"$TENFOLD_TEST_MARK\" " +
                               options +
                               "sh -c "
                               "'hostname far; exec sh -c \"$1\"' sh \"$*\"\n");
  std::filesystem::permissions(workspace.file("agent"), std::filesystem::perms::owner_all);
  workspace.set("OMPI_MCA_plm_rsh_agent", workspace.file("agent").string());
  workspace.set("OMPI_MCA_oob_tcp_if_include", net_ + "0/24");
  workspace.set("OMPI_MCA_btl_tcp_if_include", net_ + "0/24");
}

SecondHost::~SecondHost() {
  for (const pid_t pid : processes()) ::kill(pid, SIGKILL);
  ask("ip link del " + here_);
  ask("ip netns del " + name_);
}

bool SecondHost::command(const std::string& line) {
  const Answer answer = ask(line);
  if (answer.status != 0) why_ = "no second host can be made here: " + line + ": " + answer.text;
  return answer.status == 0;
}

// Not by `ip netns exec`, which gives it another /sys, without what SLURM looks for in there.
std::vector<std::string> SecondHost::over_there() const {
  return {"/usr/bin/nsenter",
          "--net=/var/run/netns/" + name_,
          "/usr/bin/unshare",
          "--uts",
          "/bin/sh",
          "-c",
          "hostname far; exec \"$@\"",
          "sh"};
}

void SecondHost::pull_the_cable() const { EXPECT_EQ(ask("ip link set " + here_ + " down").status, 0); }
void SecondHost::plug_it_in() const { EXPECT_EQ(ask("ip link set " + here_ + " up").status, 0); }

std::vector<pid_t> SecondHost::processes() const {
  std::vector<pid_t> found;
  std::istringstream in(ask("ip netns pids " + name_).text);
  for (pid_t pid = 0; in >> pid;) found.push_back(pid);
  return found;
}

}  // namespace tenfold
