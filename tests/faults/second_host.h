#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/integration/run_process.h"

// A second host on this machine: a network namespace with a name, linked to ours by a cable that can be pulled.
namespace tenfold {

class SecondHost {
 public:
  // Of the runs of `workspace`: mpirun reaches the host called "far" by a script that does what ssh would, with an
  // environment of its own. When namespaces are not allowed here, available() says false and why() the reason.
  explicit SecondHost(Workspace& workspace);
  ~SecondHost();
  SecondHost(const SecondHost&) = delete;
  SecondHost& operator=(const SecondHost&) = delete;

  bool available() const { return why_.empty(); }
  const std::string& why() const { return why_; }
  // Of the two ends of the cable.
  std::string our_address() const { return net_ + "1"; }
  std::string its_address() const { return net_ + "2"; }
  // What runs a program over there, with our environment: put before its words.
  std::vector<std::string> over_there() const;

  void pull_the_cable() const;
  void plug_it_in() const;
  std::vector<pid_t> processes() const;  // on it

 private:
  bool command(const std::string& line);

  std::string name_, here_, there_, net_, why_;
};

}  // namespace tenfold
