#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <istream>
#include <map>
#include <sstream>
#include <unordered_set>

#include "experiments/document.h"
#include "experiments/error.h"
#include "experiments/problems.h"
#include "experiments/utf8.h"

// The only file that knows yaml-cpp. Its events are turned into our own tree, so that depth and size are bounded
// while reading and every value keeps the place where it was written.
namespace tenfold {
namespace {

// Values, long texts counting for more: what an alias would cost to copy.
std::size_t weight(const Node& node) {
  std::size_t total = 1 + node.text.size() / 32;
  for (const NodeKey& key : node.keys) total += 1 + key.text.size() / 32;
  for (const Node& item : node.items) total += weight(item);
  return total;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::int32_t source, Problems& problems) : source_(source), problems_(problems) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override { done_ = true; }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node;
    node.mark = to_mark(mark);
    add(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias may not stand inside what it names");
    nodes_ += weight(found->second);  // an alias of aliases grows exponentially: bounded before the copy
    check_size(mark);
    add(Node(found->second), 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_tag(mark, tag);
    Node node;
    node.kind = Node::Kind::scalar;
    node.mark = to_mark(mark);
    node.quoted = tag == "!";
    node.text = value;
    add(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::sequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::map);
  }
  void OnMapEnd() override { close(); }

  bool done() const { return done_; }
  Node take() { return std::move(root_); }

  Mark to_mark(const YAML::Mark& mark) const {
    return {source_, std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1};
  }
  [[noreturn]] void fail(const YAML::Mark& mark, const std::string& what) const {
    throw Error(ErrorKind::config, problems_.where(to_mark(mark)) + ": " + what);
  }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor;
    bool has_key = false;
    bool drop_value = false;  // of a key that was refused
    NodeKey key;
    std::unordered_set<std::string> seen;
  };

  void check_size(const YAML::Mark& mark) const {
    if (nodes_ > kMaxYamlNodes)
      fail(mark, "more than " + std::to_string(kMaxYamlNodes) + " values (aliases count as often as they are used)");
  }
  void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!")
      problems_.add(to_mark(mark), "tags such as " + quote(tag) + " mean nothing here: leave it out");
  }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    check_tag(mark, tag);
    if (stack_.size() >= static_cast<std::size_t>(kMaxYamlDepth))
      fail(mark, "nested more than " + std::to_string(kMaxYamlDepth) + " deep");
    Open entry{};
    entry.node.kind = kind;
    entry.node.mark = to_mark(mark);
    entry.anchor = anchor;
    stack_.push_back(std::move(entry));
  }
  void close() {
    Open entry = std::move(stack_.back());
    stack_.pop_back();
    add(std::move(entry.node), entry.anchor);
  }
  void add(Node node, YAML::anchor_t anchor) {
    ++nodes_;
    if (nodes_ > kMaxYamlNodes)
      throw Error(ErrorKind::config, problems_.where(node.mark) + ": more than " + std::to_string(kMaxYamlNodes) +
                                         " values (aliases count as often as they are used)");
    if (anchor != 0) anchors_[anchor] = node;
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = stack_.back();
    if (parent.node.kind == Node::Kind::sequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      parent.has_key = true;
      parent.drop_value = !accept_key(parent, node);
    } else {
      if (!parent.drop_value) {
        parent.node.keys.push_back(std::move(parent.key));
        parent.node.items.push_back(std::move(node));
      }
      parent.has_key = false;
    }
  }
  bool accept_key(Open& parent, Node& node) {
    if (!node.is_scalar()) {
      problems_.add(node.mark, "a key must be a word");
      return false;
    }
    parent.key = {std::move(node.text), node.mark};
    if (!parent.seen.insert(parent.key.text).second) {
      problems_.add(node.mark, "key " + quote(parent.key.text) + " is given twice: keep one");
      return false;
    }
    return true;
  }

  std::int32_t source_;
  Problems& problems_;
  Node root_;
  std::vector<Open> stack_;
  std::map<YAML::anchor_t, Node> anchors_;
  std::size_t nodes_ = 0;
  bool done_ = false;
};

// Bytes that no text editor writes would come back in messages and labels; and what is not UTF-8 cannot be written to
// the JSON that the store and the trainers get.
void check_characters(std::string_view text, const TreeBuilder& builder) {
  YAML::Mark mark;
  mark.line = 0;
  mark.column = 0;
  for (std::size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
    const char c = text[at];
    bytes = utf8_character_bytes(text.substr(at));
    if (bytes == 0) builder.fail(mark, "a character that is not UTF-8: save the file as UTF-8, for example with iconv");
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\r' && c != '\t') || byte == 0x7f)
      builder.fail(mark, "a control character: is this a text file?");
    if (c == '\n') {
      ++mark.line;
      mark.column = 0;
    } else {
      mark.column += static_cast<int>(bytes);
    }
  }
}

}  // namespace

Node parse_yaml(std::string_view text, std::int32_t source, Problems& problems) {
  TreeBuilder builder(source, problems);
  if (text.size() > kMaxYamlBytes)
    throw Error(ErrorKind::config,
                problems.where({source, 0, 0}) + ": larger than " + std::to_string(kMaxYamlBytes >> 20) + " MiB");
  check_characters(text, builder);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    if (!parser.HandleNextDocument(builder)) return {};
    Node root = builder.take();
    if (parser) {
      TreeBuilder second(source, problems);
      if (parser.HandleNextDocument(second)) {
        const Node extra = second.take();
        problems.add(extra.mark, "a second document after ---: one file holds one experiment");
      }
    }
    return root;
  } catch (const YAML::Exception& error) {
    builder.fail(error.mark, "this is not valid YAML: " + error.msg +
                                 " (texts that hold brackets or ': ' need quotes, such as \"layers:[0, 1]\")");
  }
}

}  // namespace tenfold
