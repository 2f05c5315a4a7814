#include "runner/cluster_site.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "experiments/document.h"
#include "experiments/error.h"
#include "experiments/file_text.h"
#include "experiments/problems.h"

namespace tenfold {
namespace {

constexpr std::string_view kKeys[] = {"modules",   "environment", "setup",    "container", "sbatch",
                                      "partition", "account",     "launcher", "program",   "signal_s"};
constexpr double kShortestSignal_s = 10, kLongestSignal_s = 3600;

class SiteReader {
 public:
  explicit SiteReader(Problems& problems) : problems_(problems) {}

  ClusterSite read(const Node& root) {
    if (root.is_null()) return site_;
    if (!root.is_map()) {
      problems_.add(root.mark, "the file wants keys and values: " + join(kKeys));
      return site_;
    }
    for (std::size_t i = 0; i < root.keys.size(); ++i) read_key(root.keys[i], root.items[i]);
    return site_;
  }

 private:
  void read_key(const NodeKey& key, const Node& value) {
    const std::string& name = key.text;
    if (name == "modules")
      site_.modules = words(name, value);
    else if (name == "setup")
      site_.setup = lines(name, value);
    else if (name == "container")
      site_.container = words(name, value);
    else if (name == "sbatch")
      site_.sbatch = options(value);
    else if (name == "environment")
      read_environment(value);
    else if (name == "partition")
      site_.partition = word(name, value);
    else if (name == "account")
      site_.account = word(name, value);
    else if (name == "program")
      site_.program = word(name, value);
    else if (name == "launcher")
      read_launcher(value);
    else if (name == "signal_s")
      read_signal(value);
    else
      problems_.add(key.mark,
                    "unknown key " + quote(name) + did_you_mean(name, kKeys) + " (allowed: " + join(kKeys) + ")");
  }

  std::string word(const std::string& key, const Node& node) {
    if (!node.is_scalar() || node.text.empty() || node.text.find('\n') != std::string::npos) {
      problems_.add(node.mark, key + " wants one text on one line");
      return "";
    }
    return node.text;
  }
  std::vector<std::string> words(const std::string& key, const Node& node) {
    std::vector<std::string> found;
    if (node.is_null()) return found;
    if (!node.is_sequence()) {
      problems_.add(node.mark, key + " wants a list of texts, such as [a, b]");
      return found;
    }
    for (const Node& item : node.items) found.push_back(word(key, item));
    return found;
  }
  std::vector<std::string> lines(const std::string& key, const Node& node) {
    return node.is_scalar() ? std::vector<std::string>{node.text} : words(key, node);
  }
  std::vector<std::string> options(const Node& node) {
    std::vector<std::string> found = words("sbatch", node);
    for (std::size_t i = 0; i < found.size(); ++i)
      if (!found[i].starts_with("--")) problems_.add(node.items[i].mark, "an option of sbatch begins with --");
    return found;
  }
  void read_environment(const Node& node) {
    if (node.is_null()) return;
    if (!node.is_map()) {
      problems_.add(node.mark, "environment wants names and values");
      return;
    }
    for (std::size_t i = 0; i < node.keys.size(); ++i) {
      const std::string& name = node.keys[i].text;
      const bool fine =
          !name.empty() && (name[0] < '0' || name[0] > '9') && std::all_of(name.begin(), name.end(), [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
          });
      if (!fine) problems_.add(node.keys[i].mark, quote(name) + " is no name of a variable");
      if (node.items[i].is_scalar())
        site_.environment.emplace_back(name, node.items[i].text);
      else
        problems_.add(node.items[i].mark, "environment." + name + " wants a text");
    }
  }
  void read_launcher(const Node& node) {
    constexpr std::string_view kAllowed[] = {"mpirun", "srun"};
    site_.launcher = word("launcher", node);
    if (std::find(std::begin(kAllowed), std::end(kAllowed), site_.launcher) == std::end(kAllowed))
      problems_.add(node.mark, "launcher is " + quote(site_.launcher) + "; allowed: " + join(kAllowed) +
                                   did_you_mean(site_.launcher, kAllowed));
  }
  void read_signal(const Node& node) {
    const std::string text = word("signal_s", node);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), site_.signal_s);
    if (error != std::errc() || end != text.data() + text.size() || !(site_.signal_s >= kShortestSignal_s) ||
        site_.signal_s > kLongestSignal_s)
      problems_.add(node.mark, "signal_s wants seconds from 10 to 3600, not " + quote(text));
  }

  Problems& problems_;
  ClusterSite site_;
};

}  // namespace

std::filesystem::path site_file() {
  const auto variable = [](const char* name) {
    const char* text = std::getenv(name);
    return std::filesystem::path(text ? text : "");
  };
  if (const auto given = variable("TENFOLD_SITE"); !given.empty()) return given;
  if (const auto config = variable("XDG_CONFIG_HOME"); config.is_absolute()) return config / "tenfold/site.yaml";
  return variable("HOME") / ".config/tenfold/site.yaml";
}

ClusterSite read_site(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return {};
  const std::optional<std::string> text = file_text(file);
  if (!text) throw Error(ErrorKind::config, file.string() + ": cannot be read");
  Problems problems;
  const std::int32_t source = problems.add_source(file.string(), true);
  const Node root = parse_yaml(*text, source, problems);
  ClusterSite site = SiteReader(problems).read(root);
  problems.throw_if_any();
  return site;
}

}  // namespace tenfold
