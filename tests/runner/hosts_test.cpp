#include "runner/hosts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "experiments/error.h"
#include "experiments/host.h"

namespace tenfold {
namespace {

using testing::HasSubstr;

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
    return error.what();
  }
  return "nothing was refused";
}

TEST(Hosts, ListsAreReadAndMistakesNamed) {
  const std::vector<Host> hosts = parse_hosts("a:4,b.c-d.org,me@e:1");
  ASSERT_EQ(hosts.size(), 3u);
  EXPECT_EQ(hosts[0].name, "a");
  EXPECT_EQ(hosts[0].slots, 4);
  EXPECT_EQ(hosts[1].name, "b.c-d.org");
  EXPECT_EQ(hosts[1].slots, 0);
  EXPECT_EQ(hosts[2].name, "me@e");
  EXPECT_THAT(refusal([] { parse_hosts("a:0"); }), HasSubstr("'0' is no number of slots"));
  EXPECT_THAT(refusal([] { parse_hosts("a:4x,b"); }), HasSubstr("'4x'"));
  EXPECT_THAT(refusal([] { parse_hosts("-oProxyCommand=evil"); }), HasSubstr("no name of a host"));
  EXPECT_THAT(refusal([] { parse_hosts("a b:2"); }), HasSubstr("no name of a host"));
  EXPECT_THAT(refusal([] { parse_hosts(""); }), HasSubstr("--hosts a:4,b:4"));
}

TEST(Hosts, FilesOfOpenMpiAreReadAndMistakesHaveALine) {
  std::string name = "/tmp/tenfold-hosts-XXXXXX";
  ::close(::mkstemp(name.data()));
  std::ofstream(name) << "# ours\nnode1 slots=8 max_slots=16\n\nnode2   # as many as here\n";
  const std::vector<Host> hosts = read_hostfile(name);
  ASSERT_EQ(hosts.size(), 2u);
  EXPECT_EQ(hosts[0].name, "node1");
  EXPECT_EQ(hosts[0].slots, 8);
  EXPECT_EQ(hosts[1].slots, 0);
  std::ofstream(name) << "node1 slots=8\nnode2 slots=many\n";
  EXPECT_THAT(refusal([&] { read_hostfile(name); }), HasSubstr(name + ":2: 'many'"));
  std::ofstream(name) << "node1 solts=8\n";
  EXPECT_THAT(refusal([&] { read_hostfile(name); }), HasSubstr(name + ":1: 'solts=8' is not understood"));
  std::ofstream(name) << "# nobody\n";
  EXPECT_THAT(refusal([&] { read_hostfile(name); }), HasSubstr("names no host"));
  ::unlink(name.c_str());
  EXPECT_THAT(refusal([&] { read_hostfile(name); }), HasSubstr("cannot be read"));
}

TEST(Hosts, OursComesFirstAndIsKnownByItsNames) {
  EXPECT_TRUE(is_this_host("localhost"));
  EXPECT_TRUE(is_this_host("127.0.0.1"));
  EXPECT_TRUE(is_this_host(host_name()));
  EXPECT_TRUE(is_this_host(host_name() + ".example.org"));
  EXPECT_TRUE(is_this_host("me@localhost"));
  EXPECT_FALSE(is_this_host("tenfold-nowhere.invalid"));

  const HostLayout layout =
      lay_out(parse_hosts("x.invalid:4,localhost:2,y.invalid," + host_name() + ":1"), {}, 3, "cpu");
  ASSERT_EQ(layout.hosts.size(), 3u);
  EXPECT_TRUE(layout.hosts[0].here);
  EXPECT_EQ(layout.hosts[0].slots, 3) << "named twice";
  EXPECT_EQ(layout.hosts[1].name, "x.invalid");
  EXPECT_EQ(layout.hosts[2].slots, 3) << "--slots is for those without a number";
  EXPECT_EQ(layout.choice.slots, 10);
  EXPECT_TRUE(layout.several());
  EXPECT_FALSE(lay_out(parse_hosts("localhost:2"), {}, 0, "cpu").several());
  EXPECT_FALSE(lay_out({}, {}, 2, "cpu").several());
}

TEST(Hosts, WhatCannotBeSeenFromHereHasToBeSaid) {
  const HostLayout layout = lay_out(parse_hosts("x.invalid:4"), {}, 0, "cuda");
  ASSERT_EQ(layout.hosts.size(), 2u);
  EXPECT_TRUE(layout.hosts[0].here);
  EXPECT_EQ(layout.hosts[0].slots, 0) << "the coordinator alone";
  EXPECT_EQ(layout.choice.slots, 4);
  EXPECT_TRUE(layout.choice.gpu);
  EXPECT_THAT(refusal([] { lay_out(parse_hosts("x.invalid:4"), {}, 0, ""); }), HasSubstr("--device"));
  EXPECT_THAT(refusal([] { lay_out(parse_hosts("x.invalid"), {}, 0, "cpu"); }), HasSubstr("say x.invalid:N"));
}

}  // namespace
}  // namespace tenfold
