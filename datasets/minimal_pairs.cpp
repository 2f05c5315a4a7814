#include "datasets/minimal_pairs.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "datasets/file_content.h"
#include "experiments/error.h"
#include "experiments/proportion.h"

namespace tenfold {
namespace {

using nlohmann::json;

constexpr std::size_t kMostLineBytes = std::size_t{64} << 20;
constexpr int kMostDepth = 64;  // brackets without end would take memory many times the line's

class PairReader {
 public:
  PairReader(std::string place, Tokenizer* tokenizer, int vocabulary)
      : place_(std::move(place)), tokenizer_(tokenizer), vocabulary_(vocabulary) {}

  MinimalPair read(std::string_view line) const {
    if (line.size() > kMostLineBytes)
      fail("has " + std::to_string(line.size()) + " bytes, more than the " + std::to_string(kMostLineBytes) +
           " that a pair may have");
    const json object = parse(line);
    MinimalPair pair;
    pair.good = variant(object, "good");
    pair.bad = variant(object, "bad");
    if (const auto task = object.find("task"); task != object.end()) {
      if (!task->is_string()) fail("\"task\" is not a text");
      pair.task = task->get<std::string>();
      if (pair.task.size() > kMostTaskBytes || pair.task.find('\0') != std::string::npos)
        fail("\"task\" has " + std::to_string(pair.task.size()) + " bytes; allowed: a name of at most " +
             std::to_string(kMostTaskBytes));
    }
    if (const auto from = object.find("scored_from"); from != object.end()) {
      if (!from->is_number_unsigned()) fail("\"scored_from\" is not a whole number from 0");
      const auto shorter = std::min(pair.good.size(), pair.bad.size());
      if (from->get<std::uint64_t>() >= shorter)
        fail("\"scored_from\" is " + from->dump() + ", but a variant has only " + std::to_string(shorter) +
             " tokens: nothing would be scored");
      pair.scored_from = std::max<std::int64_t>(1, from->get<std::int64_t>());
    }
    return pair;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ErrorKind::data, place_ + ": " + what); }

  json parse(std::string_view line) const {
    try {
      json object = json::parse(line, [this](int depth, json::parse_event_t, const json&) {
        if (depth > kMostDepth) fail("has brackets nested more than " + std::to_string(kMostDepth) + " deep");
        return true;
      });
      if (!object.is_object()) fail("is not a JSON object, such as {\"good\": \"...\", \"bad\": \"...\"}");
      return object;
    } catch (const json::parse_error& error) {
      fail("is not JSON (at character " + std::to_string(error.byte) +
           "); a pair is one line such as {\"good\": \"...\", \"bad\": \"...\"}");
    } catch (const json::out_of_range&) {
      fail("has a number that is too large for any computer");
    }
  }

  std::vector<std::int32_t> variant(const json& object, const std::string& key) const {
    const auto text = object.find(key), tokens = object.find(key + "_tokens");
    if ((text == object.end()) == (tokens == object.end()))
      fail(text == object.end() ? "has neither \"" + key + "\" nor \"" + key + "_tokens\""
                                : "has both \"" + key + "\" and \"" + key + "_tokens\"");
    std::vector<std::int32_t> result = text != object.end() ? of_text(*text, key) : of_numbers(*tokens, key);
    if (result.size() < 2)
      fail("the \"" + key + "\" variant has " + std::to_string(result.size()) +
           " tokens; the first is not predicted, so it takes at least two");
    return result;
  }

  std::vector<std::int32_t> of_text(const json& text, const std::string& key) const {
    if (!text.is_string()) fail("\"" + key + "\" is not a text");
    if (tokenizer_ == nullptr)
      fail("holds texts, but the model has learned from tokens; give \"good_tokens\" and \"bad_tokens\"");
    if (tokenizer_->vocabulary() > vocabulary_)
      fail("texts give tokens up to " + std::to_string(tokenizer_->vocabulary() - 1) + ", but the model has only " +
           std::to_string(vocabulary_));
    std::vector<std::int32_t> tokens;
    tokenizer_->append(text.get_ref<const std::string&>(), tokens);  // the parser has checked that it is UTF-8
    return tokens;
  }

  std::vector<std::int32_t> of_numbers(const json& numbers, const std::string& key) const {
    if (!numbers.is_array()) fail("\"" + key + "_tokens\" is not a list of whole numbers");
    std::vector<std::int32_t> tokens;
    tokens.reserve(numbers.size());
    for (const json& number : numbers) {
      if (!number.is_number_unsigned() || number.get<std::uint64_t>() >= static_cast<std::uint64_t>(vocabulary_))
        fail("\"" + key + "_tokens\"[" + std::to_string(tokens.size()) + "] is " +
             (number.is_number() ? number.dump() : number.type_name()) + ", not a token in [0, " +
             std::to_string(vocabulary_) + ")");
      tokens.push_back(number.get<std::int32_t>());
    }
    return tokens;
  }

  std::string place_;
  Tokenizer* tokenizer_;
  int vocabulary_;
};

}  // namespace

MinimalPairs read_minimal_pairs(const std::filesystem::path& file, Tokenizer* tokenizer, int vocabulary,
                                const MinimalPairLimits& limits) {
  const MappedFile mapped = map_file(file);
  std::string_view rest = mapped.text();
  MinimalPairs pairs;
  pairs.limits = limits;
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (limits.max_items > 0 && static_cast<std::int64_t>(pairs.items.size()) >= limits.max_items) {
      ++pairs.left_out_more;
      continue;
    }
    const std::string place = file.string() + ":" + std::to_string(number);
    MinimalPair pair = PairReader(place, tokenizer, vocabulary).read(line);
    pair.line = number;
    const auto longer = static_cast<std::int64_t>(std::max(pair.good.size(), pair.bad.size()));
    if (limits.max_tokens > 0 && longer > limits.max_tokens)
      ++pairs.left_out_long;
    else
      pairs.items.push_back(std::move(pair));
  }
  if (!pairs.items.empty()) return pairs;
  if (pairs.left_out_long > 0)
    throw Error(ErrorKind::data, file.string() + ": each of its " + std::to_string(pairs.left_out_long) +
                                     " pairs has a variant of more than max_tokens (" +
                                     std::to_string(limits.max_tokens) + "); raise it");
  throw Error(ErrorKind::data, file.string() + ": holds no pair");
}

PairScore score_pairs(std::span<const PairLoss> losses) {
  if (losses.empty()) throw Error(ErrorKind::internal, "there are no minimal pairs to score");
  PairScore score;
  for (const PairLoss& loss : losses) {
    const double good = loss.good.mean(), bad = loss.bad.mean();
    ++score.total;
    if (good < bad) ++score.hits;
    if (good == bad) ++score.ties;
    if (std::isnan(good) || std::isnan(bad)) ++score.undefined;
  }
  const auto total = static_cast<double>(score.total);
  score.score = (static_cast<double>(score.hits) + 0.5 * static_cast<double>(score.ties)) / total;
  const ProportionInterval interval = wilson_interval(score.score, total);
  score.low = interval.low;
  score.high = interval.high;
  return score;
}

PairScores score_tasks(const MinimalPairs& pairs, std::span<const PairLoss> losses) {
  if (losses.size() != pairs.items.size())
    throw Error(ErrorKind::internal,
                std::to_string(losses.size()) + " losses for " + std::to_string(pairs.items.size()) + " minimal pairs");
  std::map<std::string, std::vector<PairLoss>> by_task;
  for (std::size_t i = 0; i < losses.size(); ++i) by_task[pairs.items[i].task].push_back(losses[i]);
  PairScores scores{{}, 0};
  for (const auto& [task, of_task] : by_task) {
    scores.tasks.push_back(score_pairs(of_task));
    scores.tasks.back().task = task;
    scores.overall += scores.tasks.back().score / static_cast<double>(by_task.size());
  }
  return scores;
}

}  // namespace tenfold
