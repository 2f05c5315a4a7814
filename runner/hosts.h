#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiments/spec.h"
#include "runner/rank_slots.h"

namespace tenfold {

// A host that a run is spread over, as the user named it.
struct Host {
  std::string name;
  int slots = 0;      // workers; 0: as many as on this host
  bool here = false;  // it is the front's
};

// "a:4,b:4" (--hosts). Throws Error(config).
std::vector<Host> parse_hosts(const std::string& list);

// Open MPI's format (--hostfile): a name per line, slots=N, # comments. Throws Error(config) with file and line.
std::vector<Host> read_hostfile(const std::filesystem::path& file);

// What a run is started with: the front's host comes first, for the coordinator is there, also when it has no slots.
// Empty `hosts`: whatever this host, or the cluster job, has.
struct HostLayout {
  std::vector<Host> hosts;  // each once, with its slots
  SlotChoice choice;        // over all of them
  bool several() const { return hosts.size() > 1; }
};
// Throws Error(config) when it is not said what cannot be seen from here, Error(device) as choose_slots.
HostLayout lay_out(const std::vector<Host>& hosts, const ResourcesSpec& resources, int wanted_slots,
                   const std::string& wanted_device);

// Whether a name means the host of this process: its own name, localhost, or an address of one of its interfaces.
bool is_this_host(const std::string& name);

// Equal for two processes that see each other's process ids. Names are not enough: two containers, or two hosts that
// were set up from one image, may have the same.
std::string this_machine();

}  // namespace tenfold
