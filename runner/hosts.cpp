#include "runner/hosts.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string_view>

#include "experiments/error.h"
#include "experiments/host.h"

namespace tenfold {
namespace {

constexpr int kMostSlots = 100000;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw Error(ErrorKind::config, where + ": " + what);
}

int slot_count(std::string_view text, const std::string& where) {
  int slots = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), slots);
  if (error != std::errc() || end != text.data() + text.size() || slots < 1 || slots > kMostSlots)
    refuse(where, "'" + std::string(text) + "' is no number of slots");
  return slots;
}

void check_name(std::string_view name, const std::string& where) {
  // Names go to mpirun's hostfile and to ssh: nothing that means something there.
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) != 0 || (c != 0 && std::strchr(".-_@", c) != nullptr);
  };
  if (name.empty() || name.front() == '-' || !std::all_of(name.begin(), name.end(), allowed))
    refuse(where, "'" + std::string(name) + "' is no name of a host");
}

std::string_view first_label(std::string_view name) { return name.substr(0, name.find('.')); }

bool same_text(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// The address alone: 4 or 16 bytes.
std::string address_bytes(const sockaddr* address) {
  if (address && address->sa_family == AF_INET)
    return {reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr), 4};
  if (address && address->sa_family == AF_INET6)
    return {reinterpret_cast<const char*>(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr), 16};
  return {};
}

std::vector<std::string> own_addresses() {
  std::vector<std::string> result;
  ifaddrs* raw = nullptr;
  if (::getifaddrs(&raw) != 0) return result;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> all(raw, &::freeifaddrs);
  for (const ifaddrs* entry = all.get(); entry; entry = entry->ifa_next)
    if (std::string bytes = address_bytes(entry->ifa_addr); !bytes.empty()) result.push_back(std::move(bytes));
  return result;
}

bool has_own_address(const std::string& name) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* raw = nullptr;
  if (::getaddrinfo(name.c_str(), nullptr, &wanted, &raw) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> found(raw, &::freeaddrinfo);
  const std::vector<std::string> ours = own_addresses();
  for (const addrinfo* entry = found.get(); entry; entry = entry->ai_next) {
    const std::string bytes = address_bytes(entry->ai_addr);
    if (bytes.size() == 4 && bytes[0] == 127) return true;  // 127.0.1.1 is a habit of Debian for the host itself
    if (std::find(ours.begin(), ours.end(), bytes) != ours.end()) return true;
  }
  return false;
}

}  // namespace

std::vector<Host> parse_hosts(const std::string& list) {
  const std::string where = "--hosts " + list;
  std::vector<Host> hosts;
  std::istringstream in(list);
  for (std::string entry; std::getline(in, entry, ',');) {
    const std::size_t colon = entry.find(':');
    Host host{entry.substr(0, colon), 0, false};
    check_name(host.name, where);
    if (colon != std::string::npos) host.slots = slot_count(std::string_view(entry).substr(colon + 1), where);
    hosts.push_back(std::move(host));
  }
  if (hosts.empty()) refuse(where, "no host is named; as an example: --hosts a:4,b:4");
  return hosts;
}

std::vector<Host> read_hostfile(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) refuse("--hostfile " + file.string(), "the file cannot be read");
  std::vector<Host> hosts;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    const std::string where = file.string() + ":" + std::to_string(++number);
    line.erase(std::min(line.find('#'), line.size()));
    std::istringstream words(line);
    Host host;
    if (!(words >> host.name)) continue;
    check_name(host.name, where);
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      const std::string key = word.substr(0, equals);
      const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
      if (key == "slots" || key == "count" || key == "cpu")
        host.slots = slot_count(value, where);
      else if (key != "max_slots" && key != "max-slots")
        refuse(where, "'" + word + "' is not understood; a line is: name slots=4");
    }
    hosts.push_back(std::move(host));
  }
  if (hosts.empty()) refuse("--hostfile " + file.string(), "it names no host");
  return hosts;
}

bool is_this_host(const std::string& name) {
  const std::string bare = name.substr(name.find('@') == std::string::npos ? 0 : name.find('@') + 1);
  const std::string own = host_name();
  if (same_text(bare, "localhost") || same_text(bare, own)) return true;
  const bool one_is_short = bare.find('.') == std::string::npos || own.find('.') == std::string::npos;
  if (one_is_short && same_text(first_label(bare), first_label(own))) return true;
  return has_own_address(bare);
}

std::string this_machine() {
  std::error_code ignored;
  return host_name() + " " + boot_id() + " " + std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string();
}

HostLayout lay_out(const std::vector<Host>& asked, const ResourcesSpec& resources, int wanted_slots,
                   const std::string& wanted_device) {
  HostLayout layout;
  if (asked.empty()) {
    layout.choice = choose_slots(resources, wanted_slots, wanted_device);
    return layout;
  }
  for (Host host : asked) {
    host.here = is_this_host(host.name);
    const auto same = std::find_if(layout.hosts.begin(), layout.hosts.end(), [&](const Host& other) {
      return (host.here && other.here) || same_text(host.name, other.name);
    });
    if (same == layout.hosts.end())
      layout.hosts.push_back(std::move(host));
    else
      same->slots += host.slots;
  }
  std::stable_partition(layout.hosts.begin(), layout.hosts.end(), [](const Host& host) { return host.here; });

  const bool takes_part = layout.hosts.front().here;
  const std::string& device = wanted_device.empty() ? resources.device : wanted_device;
  if (takes_part) {
    layout.choice = choose_slots(resources, wanted_slots, wanted_device);
  } else {
    // What the others have cannot be seen from here.
    if (device == "auto")
      throw Error(ErrorKind::config,
                  "this host is not among those named and computes nothing, so say what the others "
                  "compute on: --device cuda or --device cpu");
    const bool gpu = device == "cuda";
    layout.choice = {wanted_slots > 0 ? wanted_slots : resources.slots, gpu, gpu && resources.slots_per_gpu > 1};
    layout.hosts.insert(layout.hosts.begin(), Host{host_name(), 0, true});
  }
  const int slots_otherwise = layout.choice.slots;
  layout.choice.slots = 0;
  for (Host& host : layout.hosts) {
    if (host.slots == 0 && (takes_part || !host.here)) host.slots = slots_otherwise;
    if (host.slots == 0 && !host.here)
      throw Error(ErrorKind::config, "how many slots " + host.name + " has is not known here: say " + host.name +
                                         ":N, or --slots N for each host without a number");
    layout.choice.slots += host.slots;
  }
  return layout;
}

}  // namespace tenfold
