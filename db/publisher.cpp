#include "db/publisher.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "experiments/error.h"
#include "experiments/fault_point.h"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kOften = std::chrono::seconds(3);         // commits without a checkpoint wait this long
constexpr auto kPause = std::chrono::milliseconds(200);  // checkpoints come in bursts
constexpr auto kAfterFailure = std::chrono::seconds(5);
constexpr auto kLongestPause = std::chrono::seconds(120);
constexpr int kCostShare = 4;  // of the time, to one of publishing

// One that stays behind is swept at the next start.
void remove_superseded(const std::filesystem::path& file) {
  fault_point("delete");
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
}

}  // namespace

struct Publisher::Impl {
  explicit Impl(StoreHome& where) : home(where) {}

  void run();
  void publish(std::unique_lock<std::mutex>& lock);  // unlocks while it copies
  Clock::time_point due() const;

  StoreHome& home;
  std::mutex mutex;
  std::condition_variable work, published;
  bool ending = false, busy = false, checkpoint = false;
  std::uint64_t commits = 0, copied = 0;  // in the live store, in the published one
  std::uint64_t tries = 0;
  Clock::time_point first_waiting{};  // of the commits that are not published
  Clock::time_point not_before{};
  std::vector<std::pair<std::uint64_t, std::filesystem::path>> removals;  // file, after this many commits
  std::vector<std::string> problems;
  std::exception_ptr lost, last_failure;
  std::thread thread;
};

Clock::time_point Publisher::Impl::due() const {
  return std::max(checkpoint ? first_waiting : first_waiting + kOften, not_before);
}

void Publisher::Impl::publish(std::unique_lock<std::mutex>& lock) {
  const std::uint64_t target = commits;
  busy = true;
  checkpoint = false;
  const Clock::time_point begin = Clock::now();
  lock.unlock();
  std::string problem;
  std::exception_ptr failure;
  try {
    home.publish();
  } catch (const Error& error) {
    problem = error.what();
    failure = std::current_exception();
  } catch (const std::exception& error) {
    problem = home.db().string() + ": " + error.what();
    failure = std::make_exception_ptr(Error(ErrorKind::storage, problem));
  }
  lock.lock();
  busy = false;
  ++tries;
  last_failure = failure;
  const auto took = Clock::now() - begin;
  if (failure) {
    not_before = Clock::now() + kAfterFailure;
    problems.push_back("the store could not be published, and is tried again: " + problem);
    if (home.is_lost()) lost = failure;
  } else {
    copied = target;
    not_before = Clock::now() + std::clamp<Clock::duration>(kCostShare * took, kPause, kLongestPause);
    if (commits > copied) first_waiting = Clock::now();
    std::erase_if(removals, [&](const auto& removal) {
      if (removal.first > copied) return false;
      remove_superseded(removal.second);
      return true;
    });
  }
  published.notify_all();
}

void Publisher::Impl::run() {
  std::unique_lock lock(mutex);
  while (!ending && !lost) {
    if (commits == copied)
      work.wait(lock);
    else if (Clock::now() < due())
      work.wait_until(lock, due());
    else if (!busy)
      publish(lock);
    else
      published.wait(lock);
  }
}

Publisher::Publisher(StoreHome& home) : impl_(std::make_unique<Impl>(home)) {
  if (home.is_published()) impl_->thread = std::thread([this] { impl_->run(); });
}

Publisher::~Publisher() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->work.notify_all();
  impl_->published.notify_all();
  if (impl_->thread.joinable()) impl_->thread.join();
}

void Publisher::committed(bool checkpoint) {
  if (!impl_->home.is_published()) return;
  const std::lock_guard lock(impl_->mutex);
  if (impl_->lost) std::rethrow_exception(impl_->lost);
  if (impl_->commits++ == impl_->copied) impl_->first_waiting = Clock::now();
  impl_->checkpoint |= checkpoint;
  impl_->work.notify_all();
}

void Publisher::remove_when_published(std::vector<std::filesystem::path> files) {
  const std::lock_guard lock(impl_->mutex);
  for (std::filesystem::path& file : files) {
    if (impl_->home.is_published())
      impl_->removals.emplace_back(impl_->commits + 1, std::move(file));
    else
      remove_superseded(file);
  }
}

void Publisher::finish() {
  if (!impl_->home.is_published()) return;
  std::unique_lock lock(impl_->mutex);
  impl_->published.wait(lock, [&] { return !impl_->busy; });
  if (impl_->lost) std::rethrow_exception(impl_->lost);
  if (impl_->commits == impl_->copied) return;
  impl_->publish(lock);
  if (!impl_->last_failure) return;
  if (impl_->lost) std::rethrow_exception(impl_->lost);
  const std::filesystem::path kept = impl_->home.keep_live();
  try {
    std::rethrow_exception(impl_->last_failure);
  } catch (const Error& error) {
    throw Error(error.kind(), std::string(error.what()) + ". What was not published yet is kept in " + kept.string() +
                                  "; running the same command again computes it anew");
  }
}

std::vector<std::string> Publisher::take_problems() {
  const std::lock_guard lock(impl_->mutex);
  return std::exchange(impl_->problems, {});
}

}  // namespace tenfold
