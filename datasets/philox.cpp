#include "datasets/philox.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

// The hot loops are compiled for the baseline and for wider vectors, chosen when the program is loaded. They
// give the same bits: integers are exact, and this library is compiled without fused multiply-add.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define TENFOLD_WIDE_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define TENFOLD_WIDE_VECTORS
#endif

namespace tenfold {
namespace {

// Blocks computed side by side, so that a compiler makes vectors of them.
constexpr std::size_t kLanes = 16;
constexpr std::size_t kChunk = 4 * kLanes;  // words

struct Chunk {
  std::array<std::uint32_t, kChunk> words;
};

// The blocks first_block .. first_block + kLanes - 1 of a stream, in the order of their words.
inline __attribute__((always_inline)) void philox_chunk(const RandomStream& stream, std::uint64_t first_block,
                                                        Chunk& out) {
  for (std::size_t lane = 0; lane < kLanes; ++lane) {  // one vector's lane: a block
    const std::uint64_t index = first_block + lane;
    std::uint32_t c0 = static_cast<std::uint32_t>(index), c1 = static_cast<std::uint32_t>(index >> 32);
    std::uint32_t c2 = stream.site_low, c3 = stream.site_high;
    std::uint32_t k0 = stream.key[0], k1 = stream.key[1];
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c0;
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c2;
      c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c1 = static_cast<std::uint32_t>(p1);
      c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c3 = static_cast<std::uint32_t>(p0);
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    out.words[4 * lane] = c0;
    out.words[4 * lane + 1] = c1;
    out.words[4 * lane + 2] = c2;
    out.words[4 * lane + 3] = c3;
  }
}

// Natural logarithm of u in [2^-24, 1]: u = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m-1)/(m+1)) by
// its series, whose first term left out is below 1e-9. Our own, because a library's differs between platforms
// and is not made into vectors.
inline __attribute__((always_inline)) float log_of_unit(float u) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(u);
  constexpr std::uint32_t kRootHalf = 0x3F3504F3;  // sqrt(1/2)
  const std::uint32_t shifted = bits - kRootHalf;
  const std::int32_t exponent = static_cast<std::int32_t>(shifted) >> 23;
  const float m = std::bit_cast<float>((shifted & 0x007FFFFF) + kRootHalf);
  const float s = (m - 1.0f) / (m + 1.0f);
  const float s2 = s * s;
  const float series = 1.0f + s2 * (1.0f / 3 + s2 * (1.0f / 5 + s2 * (1.0f / 7 + s2 * (1.0f / 9))));
  return static_cast<float>(exponent) * 0.693147180559945f + 2.0f * s * series;
}

// Box-Muller: two words to two independent standard normal numbers, r cos(2 pi v) and r sin(2 pi v), with
// r = sqrt(-2 log u), u in (0, 1] and v in [0, 1) of 24 bits each.
inline __attribute__((always_inline)) void normal_pair(std::uint32_t word_u, std::uint32_t word_v, float& a, float& b) {
  const float u = static_cast<float>(static_cast<std::int32_t>((word_u >> 8) + 1)) * 0x1p-24f;
  const float r = std::sqrt(-2.0f * log_of_unit(u));
  // Angle = quadrant pi/2 + pi/4 + t with t in [-pi/4, pi/4).
  const std::uint32_t quadrant = word_v >> 30;
  const float fraction = static_cast<float>(static_cast<std::int32_t>((word_v >> 8) & 0x3FFFFF)) * 0x1p-22f;
  const float t = (fraction - 0.5f) * 1.57079632679490f;
  const float t2 = t * t;
  const float sine = t * (1.0f + t2 * (-1.0f / 6 + t2 * (1.0f / 120 + t2 * (-1.0f / 5040 + t2 * (1.0f / 362880)))));
  const float cosine = 1.0f + t2 * (-0.5f + t2 * (1.0f / 24 + t2 * (-1.0f / 720 + t2 * (1.0f / 40320))));
  constexpr float kRootHalf = 0.707106781186548f;
  const float x = (cosine - sine) * kRootHalf;  // cos(pi/4 + t) >= 0
  const float y = (cosine + sine) * kRootHalf;  // sin(pi/4 + t) >= 0
  // A quarter turn takes (x, y) to (-y, x): swap in odd quadrants, then set the signs.
  const bool odd = (quadrant & 1) != 0;
  const std::uint32_t cos_sign = ((quadrant + 1) & 2) << 30;  // quadrants 1 and 2
  const std::uint32_t sin_sign = (quadrant & 2) << 30;        // quadrants 2 and 3
  a = r * std::bit_cast<float>(std::bit_cast<std::uint32_t>(odd ? y : x) ^ cos_sign);
  b = r * std::bit_cast<float>(std::bit_cast<std::uint32_t>(odd ? x : y) ^ sin_sign);
}

inline __attribute__((always_inline)) void uniform_chunk(const Chunk& chunk, float* out) {
  for (std::size_t j = 0; j < kChunk; ++j)
    out[j] = static_cast<float>(static_cast<std::int32_t>(chunk.words[j] >> 8)) * 0x1p-24f;
}

inline __attribute__((always_inline)) void normal_chunk(const Chunk& chunk, float* out) {
  for (std::size_t j = 0; j < kChunk; j += 2) normal_pair(chunk.words[j], chunk.words[j + 1], out[j], out[j + 1]);
}

TENFOLD_WIDE_VECTORS void fill_words_loop(const RandomStream& stream, std::uint32_t* out, std::size_t n) {
  Chunk chunk;
  for (std::size_t i = 0; i < n; i += kChunk) {
    philox_chunk(stream, i / 4, chunk);
    std::copy_n(chunk.words.data(), std::min(kChunk, n - i), out + i);
  }
}

TENFOLD_WIDE_VECTORS void fill_uniform_loop(const RandomStream& stream, float* out, std::size_t n) {
  Chunk chunk;
  float last[kChunk];
  for (std::size_t i = 0; i < n; i += kChunk) {
    philox_chunk(stream, i / 4, chunk);
    uniform_chunk(chunk, n - i >= kChunk ? out + i : last);
    if (n - i < kChunk) std::copy_n(last, n - i, out + i);
  }
}

TENFOLD_WIDE_VECTORS void fill_normal_loop(const RandomStream& stream, std::uint64_t first_block, float* out,
                                           std::size_t n) {
  Chunk chunk;
  float last[kChunk];
  for (std::size_t i = 0; i < n; i += kChunk) {
    philox_chunk(stream, first_block + i / 4, chunk);
    normal_chunk(chunk, n - i >= kChunk ? out + i : last);
    if (n - i < kChunk) std::copy_n(last, n - i, out + i);
  }
}

std::uint64_t below(std::uint32_t high, std::uint32_t low, std::uint64_t bound) {
  const std::uint64_t word = (std::uint64_t{high} << 32) | low;
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * bound) >> 64);
}

}  // namespace

RandomStream::RandomStream(std::uint64_t seed, Purpose purpose, int repeat, int fold, std::uint64_t site)
    : site_low(static_cast<std::uint32_t>(site)), site_high(static_cast<std::uint32_t>(site >> 32)) {
  // The stream's key is itself a Philox number of the seed, so that neighbouring seeds share nothing.
  const PhiloxBlock mixed = philox(
      {static_cast<std::uint32_t>(purpose), static_cast<std::uint32_t>(repeat), static_cast<std::uint32_t>(fold), 0},
      {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  key = {mixed[0], mixed[1]};
}

void fill_words(const RandomStream& stream, std::span<std::uint32_t> out) {
  fill_words_loop(stream, out.data(), out.size());
}

void fill_uniform(const RandomStream& stream, std::span<float> out) {
  fill_uniform_loop(stream, out.data(), out.size());
}

void fill_normal(const RandomStream& stream, std::span<float> out) {
  fill_normal_loop(stream, 0, out.data(), out.size());
}

void fill_normal_from(const RandomStream& stream, std::uint64_t first, std::span<float> out) {
  std::size_t done = 0;
  if (const std::uint64_t skipped = first % 4; skipped != 0) {  // within a block: all of it is computed
    float block[4];
    fill_normal_loop(stream, first / 4, block, 4);
    done = std::min(out.size(), static_cast<std::size_t>(4 - skipped));
    std::copy_n(block + skipped, done, out.data());
  }
  fill_normal_loop(stream, (first + done) / 4, out.data() + done, out.size() - done);
}

std::uint64_t random_below(const RandomStream& stream, std::uint64_t index, std::uint64_t bound) {
  const PhiloxBlock block = stream.block(index / 2);
  return index % 2 == 0 ? below(block[0], block[1], bound) : below(block[2], block[3], bound);
}

std::vector<std::int64_t> random_permutation(const RandomStream& stream, std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(std::max<std::int64_t>(n, 0)));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::vector<std::uint32_t> words(2 * order.size());  // number i is random_below(stream, i, i + 1)
  fill_words(stream, words);
  for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[below(words[2 * i], words[2 * i + 1], i + 1)]);
  return order;
}

std::uint64_t site_of(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001B3;
  }
  return hash;
}

}  // namespace tenfold
