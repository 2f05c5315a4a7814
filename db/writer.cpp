#include "db/writer.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include "db/publisher.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;

// A transaction is committed when nothing waits any more, and at the latest after this.
constexpr auto kLongestTransaction = std::chrono::milliseconds(100);
constexpr std::size_t kMostRows = 50'000;

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};

template <class Command>
concept AddsRows = requires(const Command& command) {
  command.rows;
};

template <class Command>
concept OfFitsAndTrials = AddsRows<Command> && requires(const Command& command) {
  command.kind;
};

std::size_t rows_of(const StoreCommand& command) {
  return std::visit(
      Overloaded{[](const AddsRows auto& c) { return c.rows.size(); }, [](const auto&) { return std::size_t{1}; }},
      command);
}

std::size_t bytes_of(const StoreCommand& command) {
  return sizeof command +
         std::visit(Overloaded{[](const AddsRows auto& c) { return c.rows.size() * sizeof(c.rows[0]); },
                               [](const AddEvent& c) { return c.kind.size() + c.detail.size(); },
                               [](const BeginAttempt& c) { return c.start.host.size() + c.start.log.size(); },
                               [](const CheckpointRecord& c) { return c.file.path.size() + c.file.sha256.size(); },
                               [](const AttemptEnd& c) { return c.reason.size(); }},
                    command);
}

}  // namespace

struct StoreWriter::Impl {
  Impl(Store opened, StoreHome* home)
      : store(std::move(opened)),
        publisher(home != nullptr ? std::make_unique<Publisher>(*home) : nullptr),
        thread([this] { run(); }) {}

  void run();
  bool take_queue(bool wait);  // false: nothing waits (or, waiting, nothing will come any more)
  void write_transaction();
  void apply(StoreCommand& command);
  RowId attempt_of(RowId key, const char* what) const;
  void delete_superseded();

  // The thread's own.
  Store store;
  std::unique_ptr<Publisher> publisher;               // where there is a home
  bool checkpointed = false;                          // in this transaction
  std::unordered_map<std::uint64_t, RowId> attempts;  // the submitter's key -> row; running ones only
  std::vector<StoreCommand> taken;
  std::size_t next = 0;  // of taken
  std::uint64_t applied = 0;

  std::atomic<std::size_t> queued = 0;  // bytes not yet applied
  std::atomic<std::uint64_t> durable = 0;

  std::mutex mutex;
  std::condition_variable work, progress;
  std::vector<StoreCommand> queue;
  std::uint64_t submitted = 0;
  bool stopping = false;
  std::exception_ptr error;

  std::thread thread;  // last: it uses everything above
};

RowId StoreWriter::Impl::attempt_of(RowId key, const char* what) const {
  const auto found = attempts.find(static_cast<std::uint64_t>(key));
  if (found == attempts.end())
    throw Error(ErrorKind::internal,
                std::string(what) + " names attempt " + std::to_string(key) + ", which is not running");
  return found->second;
}

void StoreWriter::Impl::apply(StoreCommand& command) {
  std::visit(Overloaded{[&](const BeginAttempt& c) { attempts[c.key] = store.begin_attempt(c.start); },
                        [&](const AddTrainSteps& c) { store.add_rows(c.fit, c.rows); },
                        [&](const AddTttSteps& c) { store.add_rows(c.trial, c.rows); },
                        [&](const AddGroupSteps& c) { store.add_rows(c.fit, c.rows); },
                        [&](const AddPairScores& c) { store.add_rows(c.trial, c.rows); },
                        [&](const OfFitsAndTrials auto& c) { store.add_rows(c.kind, c.unit, c.rows); },
                        [&](const AddEvent& c) { store.add_event(c.trial, c.kind, c.detail); },
                        [&](CheckpointRecord& c) {
                          c.attempt = attempt_of(c.attempt, "a checkpoint");
                          checkpointed = true;
                          store.add_checkpoint(c);
                        },
                        [&](AttemptEnd& c) {
                          const RowId key = c.attempt;
                          c.attempt = attempt_of(key, "an attempt's end");
                          store.finish_attempt(c);
                          attempts.erase(static_cast<std::uint64_t>(key));
                        }},
             command);
}

// A file that stays behind is swept at the next start, so a failure here is none of the run.
void StoreWriter::Impl::delete_superseded() {
  const std::filesystem::path folder = checkpoint_folder(store.file());
  std::vector<std::filesystem::path> files;
  for (const std::string& path : store.take_superseded_checkpoints()) files.push_back(folder / path);
  if (publisher) {
    publisher->remove_when_published(std::move(files));
    return;
  }
  std::error_code ignored;
  for (const std::filesystem::path& file : files) std::filesystem::remove(file, ignored);
}

bool StoreWriter::Impl::take_queue(bool wait) {
  taken.clear();
  next = 0;
  std::unique_lock lock(mutex);
  if (wait) work.wait(lock, [&] { return stopping || !queue.empty(); });
  std::swap(taken, queue);
  return !taken.empty();
}

void StoreWriter::Impl::write_transaction() {
  const Clock::time_point start = Clock::now();
  std::size_t rows = 0;
  store.begin();
  while (next < taken.size() || take_queue(false)) {
    StoreCommand& command = taken[next++];
    rows += rows_of(command);
    const std::size_t bytes = bytes_of(command);
    apply(command);
    ++applied;
    queued -= bytes;
    if (rows >= kMostRows || Clock::now() - start >= kLongestTransaction) break;
  }
  store.commit();
  delete_superseded();
  if (publisher) publisher->committed(std::exchange(checkpointed, false));
}

void StoreWriter::Impl::run() {
  try {
    while (next < taken.size() || take_queue(true)) {
      write_transaction();
      const std::lock_guard lock(mutex);
      durable = applied;
      progress.notify_all();
    }
  } catch (...) {
    const std::lock_guard lock(mutex);
    error = std::current_exception();
    try {
      store.rollback();
    } catch (...) {  // the first error says more
    }
    queue.clear();
    queued = 0;
    progress.notify_all();
  }
}

StoreWriter::StoreWriter(Store store, StoreHome* home) : impl_(std::make_unique<Impl>(std::move(store), home)) {}

StoreWriter::~StoreWriter() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->work.notify_one();
  impl_->thread.join();
  try {
    if (impl_->publisher) impl_->publisher->finish();
  } catch (...) {  // as the header says
  }
}

std::uint64_t StoreWriter::submit(StoreCommand command) {
  const std::size_t bytes = bytes_of(command);
  std::unique_lock lock(impl_->mutex);
  if (impl_->error) std::rethrow_exception(impl_->error);
  const bool was_empty = impl_->queue.empty();
  impl_->queue.push_back(std::move(command));
  impl_->queued += bytes;
  const std::uint64_t ticket = ++impl_->submitted;
  lock.unlock();
  if (was_empty) impl_->work.notify_one();
  return ticket;
}

std::uint64_t StoreWriter::committed() const { return impl_->durable; }

std::size_t StoreWriter::queued_bytes() const { return impl_->queued; }

void StoreWriter::flush() {
  std::unique_lock lock(impl_->mutex);
  const std::uint64_t target = impl_->submitted;
  impl_->progress.wait(lock, [&] { return impl_->error || impl_->durable >= target; });
  if (impl_->error) std::rethrow_exception(impl_->error);
  lock.unlock();
  if (impl_->publisher) impl_->publisher->finish();
}

std::vector<std::string> StoreWriter::take_problems() {
  return impl_->publisher ? impl_->publisher->take_problems() : std::vector<std::string>();
}

}  // namespace tenfold
