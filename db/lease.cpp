#include "db/lease.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "db/text_table.h"
#include "experiments/error.h"
#include "experiments/host.h"
#include "experiments/random_name.h"
#include "experiments/storage_advice.h"
#include "experiments/unique_fd.h"

namespace tenfold {
namespace {

using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

constexpr double kLease_s = 30;
constexpr double kLongestRenewal_s = 3;
constexpr auto kLook = std::chrono::milliseconds(200);

double lease_s() {
  const char* text = std::getenv("TENFOLD_LEASE_S");
  if (!text || !*text) return kLease_s;
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (*end != '\0' || !(value > 0))
    throw Error(ErrorKind::config, std::string("TENFOLD_LEASE_S=") + text + " is not a positive number of seconds");
  return value;
}

double seconds_of(const struct stat& info) {
  return static_cast<double>(info.st_mtim.tv_sec) + 1e-9 * static_cast<double>(info.st_mtim.tv_nsec);
}

struct Seen {
  std::string text;
  double touched_s = 0;  // by the file system's clock
};

// Opened anew each time: that is when network file systems look at what other hosts have written.
std::optional<Seen> look(const fs::path& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return std::nullopt;
    throw storage_error(file, "the lease of the store cannot be read", errno);
  }
  char text[1024];
  const ssize_t size = ::pread(fd.get(), text, sizeof text, 0);
  struct stat info {};
  if (size < 0 || ::fstat(fd.get(), &info) != 0)
    throw storage_error(file, "the lease of the store cannot be read", errno);
  return Seen{std::string(text, static_cast<std::size_t>(size)), seconds_of(info)};
}

// False: there is one already.
bool create(const fs::path& file, const std::string& text) {
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd && errno == EEXIST) return false;
  if (!fd) throw storage_error(file, "the lease of the store cannot be written", errno);
  if (::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd.get()) == 0)
    return true;
  const int code = errno;
  ::unlink(file.c_str());
  throw storage_error(file, "the lease of the store cannot be written", code);
}

// A lease of somebody else, from the first look at it on.
struct Watched {
  Seen seen;
  double first_age_s;
  Clock::time_point since;
  bool same(const Seen& other) const { return other.text == seen.text && other.touched_s == seen.touched_s; }
  double age_s() const {
    return std::max(0.0, first_age_s) + std::chrono::duration<double>(Clock::now() - since).count();
  }
};

// What the file system takes for now; the host's own clock where no file can be made.
double file_system_now_s(const fs::path& lease) {
  const fs::path probe = lease.string() + ".clock." + random_name();
  const UniqueFd fd(::open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  struct stat info {};
  const bool asked = fd && ::fstat(fd.get(), &info) == 0;
  if (fd) ::unlink(probe.c_str());
  if (asked) return seconds_of(info);
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

nlohmann::json parsed(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  return json.is_object() ? json : nlohmann::json::object();
}

std::string field(const nlohmann::json& json, const char* name) {
  return json.contains(name) && json[name].is_string() ? json[name].get<std::string>() : "";
}

// Host names may coincide, and containers of one machine have several: both must agree.
bool is_from_here(const nlohmann::json& holder) {
  return field(holder, "host") == host_name() && field(holder, "boot") == boot_id();
}

// Takes away the lease that was seen, and no other: whoever was faster keeps what is theirs.
void take_away(const fs::path& file, const Seen& seen) {
  const fs::path aside = file.string() + ".over." + random_name();
  if (::rename(file.c_str(), aside.c_str()) != 0) return;
  const std::optional<Seen> moved = look(aside);
  if (moved && moved->text != seen.text)
    ::rename(aside.c_str(), file.c_str());
  else
    ::unlink(aside.c_str());
}

fs::path lease_file(const fs::path& db) { return db.string() + ".lease"; }

}  // namespace

struct Lease::Impl {
  fs::path db, file;
  std::string text, taken_from;
  double duration_s = kLease_s;
  std::mutex mutex;
  std::condition_variable ends;
  bool ending = false;
  std::thread renewal;

  enum class Touch { done, lost, failed };
  Touch touch() const;
  void renew_often();
};

Lease::Impl::Touch Lease::Impl::touch() const {
  const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return errno == ENOENT ? Touch::lost : Touch::failed;
  char content[1024];
  const ssize_t size = ::pread(fd.get(), content, sizeof content, 0);
  if (size < 0) return Touch::failed;
  if (std::string(content, static_cast<std::size_t>(size)) != text) return Touch::lost;
  return ::futimens(fd.get(), nullptr) == 0 ? Touch::done : Touch::failed;
}

void Lease::Impl::renew_often() {
  const std::chrono::duration<double> pause(std::min(kLongestRenewal_s, duration_s / 10));
  std::unique_lock lock(mutex);
  while (!ends.wait_for(lock, pause, [this] { return ending; })) touch();
}

Lease::Lease(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->renewal = std::thread([this] { impl_->renew_often(); });
}

Lease::~Lease() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->ends.notify_all();
  impl_->renewal.join();
  if (impl_->touch() == Impl::Touch::done) ::unlink(impl_->file.c_str());
}

void Lease::confirm() {
  // Somebody who takes a lease away by mistake puts it back at once: missing for a moment is not lost.
  Impl::Touch last = Impl::Touch::failed;
  int code = 0;
  for (int look = 0; look < 3; ++look) {
    if (look > 0) std::this_thread::sleep_for(kLook);
    errno = 0;
    last = impl_->touch();
    code = errno;
    if (last == Impl::Touch::done) return;
  }
  if (last == Impl::Touch::failed) throw storage_error(impl_->file, "the lease of the store cannot be renewed", code);
  std::string by;
  if (const auto now = tenfold::look(impl_->file)) by = " by " + describe_holder(now->text);
  throw LeaseLost(impl_->db.string() + " was taken over" + by +
                  ", because this run could not renew its lease in time (" + impl_->file.string() +
                  "); what it had published is kept, and nothing after");
}

const std::string& Lease::taken_from() const { return impl_->taken_from; }

std::unique_ptr<Lease> Lease::take(const fs::path& db, const std::string& holder, bool same_kernel_is_dead,
                                   const Tell& tell) {
  auto impl = std::make_unique<Impl>();
  impl->db = db;
  impl->file = lease_file(db);
  impl->duration_s = lease_s();
  nlohmann::json self = parsed(holder);
  self["boot"] = boot_id();
  self["lease"] = random_name();
  impl->text = self.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";

  std::optional<Watched> watched;
  while (!create(impl->file, impl->text)) {
    const std::optional<Seen> seen = look(impl->file);
    if (!seen) continue;  // given back meanwhile
    if (watched && !watched->same(*seen))
      throw Error(ErrorKind::storage, db.string() + " is held by " + describe_holder(seen->text) +
                                          "; wait for it, end it, or use another store with --db");
    const bool first_look = !watched;
    if (first_look) watched = {*seen, file_system_now_s(impl->file) - seen->touched_s, Clock::now()};
    const bool known_dead = same_kernel_is_dead && is_from_here(parsed(seen->text));
    if (known_dead || watched->age_s() > impl->duration_s) {
      take_away(impl->file, *seen);
      impl->taken_from =
          describe_holder(seen->text) + (known_dead ? ", which is no more" : ", which had let its lease run out");
      watched.reset();
      continue;
    }
    if (first_look && tell)
      tell(db.string() + " was last held by " + describe_holder(seen->text) + "; waiting up to " +
           std::to_string(static_cast<int>(std::ceil(impl->duration_s - watched->age_s()))) +
           " s to see whether it lives");
    std::this_thread::sleep_for(kLook);
  }
  return std::unique_ptr<Lease>(new Lease(std::move(impl)));
}

std::optional<std::string> lease_holder(const fs::path& db, bool same_kernel_is_dead) {
  const fs::path file = lease_file(db);
  const std::optional<Seen> seen = look(file);
  if (!seen || file_system_now_s(file) - seen->touched_s > lease_s()) return std::nullopt;
  if (same_kernel_is_dead && is_from_here(parsed(seen->text))) return std::nullopt;
  return seen->text;
}

std::string describe_holder(const std::string& holder) {
  const nlohmann::json json = parsed(holder);
  if (!json.contains("pid") || !json["pid"].is_number_integer()) return "another process";
  std::string who = "pid " + std::to_string(json["pid"].get<std::int64_t>()) + " on host " +
                    printable(field(json, "host")) + " since " + printable(field(json, "started_at"));
  if (!field(json, "experiment").empty()) who += " (experiment " + printable(field(json, "experiment")) + ")";
  return who;
}

}  // namespace tenfold
