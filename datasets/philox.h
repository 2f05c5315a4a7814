#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tenfold {

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a keyed bijection of
// counters. Every random number of tenfold is a pure function of (seed, purpose, repeat, fold, site,
// counter), so that nothing depends on the slot, the array, the rank or the attempt.
using PhiloxBlock = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

constexpr PhiloxBlock philox(PhiloxBlock counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(p1),
               static_cast<std::uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(p0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// What a random number is for. Values are stored in results: never renumber.
enum class Purpose : std::uint32_t {
  folds = 1,
  validation = 2,
  initial_values = 3,
  train_permutation = 4,
  train_dropout = 5,
  ttt_permutation = 6,
  ttt_dropout = 7,
  query = 8,
  shift = 9,
  synthetic = 10,
};

// One independent stream of random numbers. `site` tells apart what the purpose alone does not (a parameter's
// name hash, a layer, an epoch).
struct RandomStream {
  PhiloxKey key;
  std::uint32_t site_low, site_high;

  RandomStream(std::uint64_t seed, Purpose purpose, int repeat, int fold, std::uint64_t site);
  PhiloxBlock block(std::uint64_t index) const {  // four words: numbers 4*index .. 4*index+3
    return philox({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), site_low, site_high},
                  key);
  }
  std::uint32_t word(std::uint64_t index) const { return block(index / 4)[index % 4]; }
};

// [0, 1) with 24 bits; exact in float.
constexpr float to_unit_float(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

void fill_words(const RandomStream& stream, std::span<std::uint32_t> out);  // out[i] = stream.word(i)
void fill_uniform(const RandomStream& stream, std::span<float> out);        // [0, 1)
void fill_normal(const RandomStream& stream, std::span<float> out);         // Box-Muller on pairs of words
void fill_normal_from(const RandomStream& stream, std::uint64_t first, std::span<float> out);  // as if from out[-first]
std::uint64_t random_below(const RandomStream& stream, std::uint64_t index, std::uint64_t bound);  // unbiased to 2^-32
// A uniformly random order of 0..n-1 (Fisher-Yates over the stream).
std::vector<std::int64_t> random_permutation(const RandomStream& stream, std::int64_t n);

std::uint64_t site_of(std::string_view name);  // FNV-1a: stable across platforms

}  // namespace tenfold
