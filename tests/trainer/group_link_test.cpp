#include "trainer/group_link.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <future>
#include <thread>

#include "experiments/error.h"
#include "tests/trainer/local_meeting.h"
#include "trainer/group_settings.h"

namespace tenfold::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

JobGroup rank_of(int rank, int size) { return {rank, size, "localhost", true}; }

// `body` on every rank, each in a thread; what it threw, by rank ("" where it did not).
std::vector<std::string> on_ranks(int size, const std::function<void(GroupLink&)>& body, const GroupTimes& times = {}) {
  LocalMeeting meeting;
  std::vector<std::future<std::string>> ranks;
  for (int rank = 0; rank < size; ++rank)
    ranks.push_back(std::async(std::launch::async, [&, rank]() -> std::string {
      try {
        GroupLink link(rank_of(rank, size), meeting, times);
        body(link);
        return "";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::communication);
        return error.what();
      }
    }));
  std::vector<std::string> errors;
  for (auto& rank : ranks) errors.push_back(rank.get());
  return errors;
}

void expect_none(const std::vector<std::string>& errors) {
  for (std::size_t rank = 0; rank < errors.size(); ++rank) EXPECT_EQ(errors[rank], "") << "rank " << rank;
}

TEST(GroupLink, AddsInTheOrderOfRanks) {
  // 1e8 + 1 - 1e8 is 0 in float, and 1 in another order.
  const std::vector<float> values = {1e8f, 1.0f, -1e8f, 2.0f};
  for (const int size : {2, 3, 4}) {
    std::vector<std::vector<float>> got(static_cast<std::size_t>(size));
    expect_none(on_ranks(size, [&](GroupLink& link) {
      const auto rank = static_cast<std::size_t>(link.rank());
      got[rank].assign(300'001, values[rank]);  // several pieces
      link.sum(std::span<float>(got[rank]));
    }));
    float expected = values[0];
    for (int rank = 1; rank < size; ++rank) expected += values[static_cast<std::size_t>(rank)];
    for (const auto& sums : got) {
      EXPECT_EQ(sums.front(), expected) << size;
      EXPECT_EQ(sums, got.front());
    }
  }
}

TEST(GroupLink, GivesTheLeadersWordsToAll) {
  std::vector<std::string> heard(4);
  expect_none(on_ranks(4, [&](GroupLink& link) {
    std::vector<double> sums = {0.5 * link.rank(), 1};
    link.sum(std::span<double>(sums));
    EXPECT_EQ(sums, (std::vector<double>{3.0, 4.0}));
    std::int64_t steps = link.leads() ? 17 : link.rank();
    link.broadcast(std::as_writable_bytes(std::span(&steps, 1)));
    EXPECT_EQ(steps, 17);
    link.barrier();
    std::vector<float> nothing;
    link.sum(std::span<float>(nothing));
    heard[static_cast<std::size_t>(link.rank())] = link.broadcast(link.leads() ? std::string("on we go") : "what?");
  }));
  EXPECT_EQ(heard, std::vector<std::string>(4, "on we go"));
}

TEST(GroupLink, NamesARankThatIsGone) {
  const auto errors = on_ranks(3, [](GroupLink& link) {
    link.barrier();
    if (link.rank() == 2) return;  // closes its socket
    float value = 1;
    link.sum(std::span(&value, 1));
  });
  EXPECT_THAT(errors[0], HasSubstr("rank 2 of the trial's group"));
  EXPECT_THAT(errors[1], HasSubstr("rank 0 of the trial's group")) << "the leader gives up and takes the rest along";
  EXPECT_EQ(errors[2], "");
}

TEST(GroupLink, SeesAClosedSocketBesideItsWork) {
  std::promise<void> closed;
  const std::shared_future<void> was_closed(closed.get_future());
  expect_none(on_ranks(2, [&](GroupLink& link) {
    link.barrier();
    if (link.rank() == 1) {
      EXPECT_EQ(link.gone(), std::nullopt);
      link.barrier();
      return;
    }
    EXPECT_EQ(link.gone(), std::nullopt);
    link.barrier();
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!link.gone() && std::chrono::steady_clock::now() < until) usleep(1000);
    EXPECT_EQ(link.gone(), 1);
  }));
}

TEST(GroupLink, WaitsAtABarrierLongerThanARankMayBeSilent) {
  GroupTimes times;
  times.silence = milliseconds(200);
  for (const int late : {0, 1, 2})
    expect_none(on_ranks(
        3,
        [&](GroupLink& link) {
          if (link.rank() == late) std::this_thread::sleep_for(3 * times.silence);
          link.barrier();
        },
        times));
}

TEST(GroupLink, NamesAtABarrierAnyRankThatIsGone) {
  std::promise<void> given_up;
  const std::shared_future<void> was_given_up(given_up.get_future());
  const auto errors = on_ranks(3, [&](GroupLink& link) {
    if (link.rank() == 2) return;  // closes its socket
    if (link.rank() == 1) {
      // It still gets ready while the leader, who waits for it, too, hears of the other.
      EXPECT_EQ(was_given_up.wait_for(std::chrono::seconds(60)), std::future_status::ready);
      return;
    }
    try {
      link.barrier();
    } catch (const Error& error) {
      given_up.set_value();
      throw;
    }
  });
  EXPECT_THAT(errors[0], HasSubstr("rank 2 of the trial's group"));
}

TEST(GroupLink, EndsABarrierThatARankNeverComesTo) {
  GroupTimes times;
  times.barrier = milliseconds(100);
  std::promise<void> given_up;
  const std::shared_future<void> was_given_up(given_up.get_future());
  const auto errors = on_ranks(
      2,
      [&](GroupLink& link) {
        if (!link.leads()) return was_given_up.wait();
        try {
          link.barrier();
        } catch (const Error& error) {
          given_up.set_value();
          throw;
        }
        given_up.set_value();
      },
      times);
  EXPECT_THAT(errors[0], HasSubstr("rank 1 of the trial's group has not come"));
}

TEST(GroupSettings, ComeFromTheEnvironment) {
  const auto set = [](const char* silence, const char* stall, const char* bucket) {
    setenv("TENFOLD_GROUP_SILENCE_S", silence, 1);
    setenv("TENFOLD_GROUP_STALL_S", stall, 1);
    setenv("TENFOLD_BUCKET_BYTES", bucket, 1);
  };
  set("", "", "");
  EXPECT_EQ(GroupSettings::from_environment().times.silence, GroupTimes{}.silence);
  EXPECT_EQ(GroupSettings::from_environment().times.stall, GroupTimes{}.stall);
  EXPECT_EQ(GroupSettings::from_environment().bucket_bytes, 0);
  set("2.5", "8", "1024");
  EXPECT_EQ(GroupSettings::from_environment().times.silence, milliseconds(2500));
  EXPECT_EQ(GroupSettings::from_environment().times.stall, milliseconds(8000));
  EXPECT_EQ(GroupSettings::from_environment().bucket_bytes, 1024);
  for (const char* wrong : {"soon", "0", "-1", "nan", "5s"}) {
    set(wrong, "", "");
    EXPECT_THROW(GroupSettings::from_environment(), Error) << wrong;
    set("", wrong, "");
    EXPECT_THROW(GroupSettings::from_environment(), Error) << wrong;
    set("", "", wrong);
    EXPECT_THROW(GroupSettings::from_environment(), Error) << wrong;
  }
  unsetenv("TENFOLD_GROUP_SILENCE_S");
  unsetenv("TENFOLD_GROUP_STALL_S");
  unsetenv("TENFOLD_BUCKET_BYTES");
}

TEST(GroupLink, FindsOutRanksThatComputeOtherThings) {
  auto errors = on_ranks(2, [](GroupLink& link) {
    std::vector<float> values(link.leads() ? 5 : 1'000'000);
    link.sum(std::span<float>(values));
  });
  EXPECT_THAT(errors[0], HasSubstr("rank 1 of the trial's group computes something else"));
  errors = on_ranks(2, [](GroupLink& link) {
    if (link.leads()) return link.barrier();
    std::vector<float> values(5);
    link.sum(std::span<float>(values));
  });
  EXPECT_THAT(errors[0], HasSubstr("rank 1 of the trial's group computes something else"));
}

TEST(GroupLink, NamesRanksThatDoNotCome) {
  LocalMeeting meeting;
  GroupTimes times;
  times.join = milliseconds(100);
  try {
    GroupLink(rank_of(0, 3), meeting, times);
    FAIL() << "it waited for nobody";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 1, 2 did not join"));
  }
  LocalMeeting nobody;
  EXPECT_THROW(GroupLink(rank_of(1, 3), nobody, times), Error);
}

class Fixed final : public Meeting {
 public:
  explicit Fixed(std::string address) : address_(std::move(address)) {}
  void announce(const GroupAddress&) override {}
  GroupAddress await(milliseconds) override { return {address_}; }

 private:
  std::string address_;
};

int connection_to(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  where.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(colon + 1))));
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(socket, reinterpret_cast<const sockaddr*>(&where), sizeof where), 0);
  return socket;
}

TEST(GroupLink, LetsNobodyInWithoutTheSecret) {
  LocalMeeting meeting;
  auto leader = std::async(std::launch::async, [&] {
    GroupLink link(rank_of(0, 2), meeting);
    float value = 1;
    link.sum(std::span(&value, 1));
    return value;
  });
  const std::string address = meeting.await(milliseconds(20'000)).address;
  EXPECT_EQ(address.find("127.0.0.1"), std::string("tcp://").size()) << "one host: nothing listens beyond the loopback";
  const int silent = connection_to(address), babbling = connection_to(address);
  const std::string nonsense(100, 'x');
  EXPECT_GT(::send(babbling, nonsense.data(), nonsense.size(), MSG_NOSIGNAL), 0);
  std::string wrong = address;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  Fixed lie(wrong), truth(address);
  EXPECT_THROW(GroupLink(rank_of(1, 2), lie), Error);
  EXPECT_THROW(GroupLink(rank_of(2, 3), truth), Error) << "another group's rank";
  GroupLink link(rank_of(1, 2), truth);
  float value = 2;
  link.sum(std::span(&value, 1));
  EXPECT_EQ(value, 3);
  EXPECT_EQ(leader.get(), 3);
  close(silent);
  close(babbling);
}

TEST(GroupLink, RefusesWhatIsNoAddress) {
  for (const char* text : {"", "tcp://", "tcp://host/", "tcp://host:1/12", "tcp://:1/00112233445566778899aabbccddeeff",
                           "tcp://h:1/00112233445566778899aabbccddeefg", "/00112233445566778899aabbccddeeff"}) {
    Fixed meeting(text);
    EXPECT_THROW(GroupLink(rank_of(1, 2), meeting), Error) << text;
  }
}

}  // namespace
}  // namespace tenfold::testing
