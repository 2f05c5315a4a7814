#include "datasets/log_mel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <complex>
#include <limits>
#include <numeric>

#include "tests/datasets/sound_files.h"

namespace tenfold {
namespace {

using test::sine;
using testing::HasSubstr;

constexpr std::int64_t kAll = std::numeric_limits<std::int64_t>::max();

std::vector<float> rows_of(const LogMel& log_mel, const std::vector<float>& samples, std::int64_t most = kAll) {
  std::vector<float> rows;
  log_mel.append(samples, most, rows);
  return rows;
}

// By the formulas of log_mel.h, one frequency after another, without a fast transform.
std::vector<double> slow_frame(const std::vector<float>& x, std::size_t begin, int rate, int mels, std::size_t frame,
                               std::size_t m) {
  const double pi = std::numbers::pi;
  std::vector<double> w(frame), power(m / 2 + 1), energies;
  double squares = 0;
  for (std::size_t n = 0; n < frame; ++n) {
    w[n] = (1 - std::cos(2 * pi * static_cast<double>(n) / static_cast<double>(frame))) / 2;
    squares += w[n] * w[n];
  }
  for (std::size_t k = 0; k <= m / 2; ++k) {
    std::complex<double> sum = 0;
    for (std::size_t n = 0; n < frame && begin + n < x.size(); ++n)
      sum += w[n] * static_cast<double>(x[begin + n]) *
             std::polar(1.0, -2 * pi * static_cast<double>(k * n % m) / static_cast<double>(m));
    power[k] = (k == 0 || k == m / 2 ? 1 : 2) * std::norm(sum) / (static_cast<double>(m) * squares);
  }
  for (int band = 0; band < mels; ++band) {
    double corner[3], energy = 0;
    for (int i = 0; i < 3; ++i) corner[i] = hertz_of_mel(mel_of_hertz(rate / 2.0) * (band + i) / (mels + 1));
    for (std::size_t k = 0; k <= m / 2; ++k) {
      const double hertz = static_cast<double>(k) * rate / static_cast<double>(m);
      const double rise = (hertz - corner[0]) / (corner[1] - corner[0]);
      const double fall = (corner[2] - hertz) / (corner[2] - corner[1]);
      energy += std::max(0.0, std::min(rise, fall)) * power[k];
    }
    energies.push_back(std::log(std::max(energy, 1e-10)));
  }
  return energies;
}

TEST(LogMelTest, FollowsItsFormulas) {
  std::vector<float> x = sine(440, 8000, 700, 0.3);
  const std::vector<float> other = sine(2900, 8000, 700, 0.05);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += other[i] + (i % 7 == 0 ? 0.01f : -0.002f);
  const LogMel log_mel(8000, 40, 25, 10);
  ASSERT_EQ(log_mel.frame_samples(), 200);
  ASSERT_EQ(log_mel.hop_samples(), 80);
  ASSERT_EQ(log_mel.fft_size(), 256);
  const std::vector<float> rows = rows_of(log_mel, x);
  ASSERT_EQ(rows.size(), 7u * 40);
  for (std::size_t frame = 0; frame < 7; ++frame) {
    const std::vector<double> expected = slow_frame(x, 80 * frame, 8000, 40, 200, 256);
    for (std::size_t m = 0; m < 40; ++m) EXPECT_NEAR(rows[frame * 40 + m], expected[m], 2e-5) << frame << ' ' << m;
  }
}

TEST(LogMelTest, MelScaleIsSlaneys) {
  // f / (200/3) up to 1 kHz; a factor of 6.4 is 27 above it.
  EXPECT_DOUBLE_EQ(mel_of_hertz(200), 3);
  EXPECT_DOUBLE_EQ(mel_of_hertz(1000), 15);
  EXPECT_DOUBLE_EQ(mel_of_hertz(6400), 42);
  for (const double hertz : {0.0, 50.0, 999.0, 1000.0, 1001.0, 8000.0})
    EXPECT_NEAR(hertz_of_mel(mel_of_hertz(hertz)), hertz, 1e-9);
}

TEST(LogMelTest, ASineIsLoudestInItsBand) {
  const LogMel log_mel(16000, 40, 25, 10);
  for (const double hertz : {300.0, 1000.0, 2500.0, 6000.0}) {
    const std::vector<float> row = rows_of(log_mel, sine(hertz, 16000, 400));
    const auto loudest = std::max_element(row.begin(), row.end()) - row.begin();
    const double step = mel_of_hertz(8000) / 41;
    EXPECT_NEAR(static_cast<double>(loudest + 1), mel_of_hertz(hertz) / step, 1.0) << hertz;
  }
}

TEST(LogMelTest, PowerIsTheSignals) {
  // Between the first and the last centre the triangles add up to 1: the bands of a sine there hold its mean square,
  // 1/2 of the squared amplitude (Parseval), whatever the length of frame and transform.
  for (const double frame_ms : {25.0, 32.0, 40.0})
    for (const double amplitude : {1.0, 0.01}) {
      const std::vector<float> row = rows_of(LogMel(8000, 30, frame_ms, 10), sine(1200, 8000, 400, amplitude));
      double energy = 0;
      for (std::size_t m = 0; m < 30; ++m) energy += std::exp(static_cast<double>(row[m]));
      EXPECT_NEAR(energy / (amplitude * amplitude), 0.5, 0.005) << frame_ms << ' ' << amplitude;
    }
}

TEST(LogMelTest, SilenceIsTheFloor) {
  for (const float value : rows_of(LogMel(8000, 40, 25, 10), std::vector<float>(1000, 0.0f)))
    EXPECT_FLOAT_EQ(value, static_cast<float>(std::log(1e-10)));
}

TEST(LogMelTest, FramesLieInsideTheRecording) {
  const LogMel log_mel(8000, 40, 25, 10);
  EXPECT_EQ(log_mel.frames(0), 0);
  EXPECT_EQ(log_mel.frames(1), 1);
  EXPECT_EQ(log_mel.frames(200), 1);
  EXPECT_EQ(log_mel.frames(279), 1);
  EXPECT_EQ(log_mel.frames(280), 2);
  EXPECT_EQ(log_mel.frames(8000), 98);
  const std::vector<float> x = sine(700, 8000, 1000);
  const std::vector<float> all = rows_of(log_mel, x), three = rows_of(log_mel, x, 3);
  ASSERT_EQ(all.size(), 11u * 40);
  EXPECT_EQ(three, std::vector<float>(all.begin(), all.begin() + 120));
  // A short one is padded with zeros.
  const std::vector<float> shorter(x.begin(), x.begin() + 150);
  std::vector<float> padded = shorter;
  padded.resize(200);
  EXPECT_EQ(rows_of(log_mel, shorter), rows_of(log_mel, padded));
}

TEST(LogMelTest, FramesAreIndependent) {
  // What came before a frame has no part in it.
  const LogMel log_mel(8000, 20, 25, 10);
  const std::vector<float> x = sine(500, 8000, 1000);
  const std::vector<float> later(x.begin() + 160, x.end());
  const std::vector<float> all = rows_of(log_mel, x);
  EXPECT_EQ(rows_of(log_mel, later), std::vector<float>(all.begin() + 40, all.end()));
}

TEST(LogMelTest, RefusesWhatHasNoSpectrum) {
  const auto refused = [](int rate, int mels, double frame_ms, double hop_ms) {
    return test::error_of(ErrorKind::config, [&] { LogMel(rate, mels, frame_ms, hop_ms); });
  };
  EXPECT_THAT(refused(8000, 40, 0.1, 10), HasSubstr("dataset.frame_ms: 0.1 at 8000 samples a second is 1 samples"));
  EXPECT_THAT(refused(8000, 40, 25, 0.01), HasSubstr("dataset.hop_ms"));
  EXPECT_THAT(refused(8000, 256, 25, 10), HasSubstr("256 bands are more than frames of 25 ms"));
  EXPECT_NO_THROW(LogMel(16000, 80, 25, 10));
  EXPECT_NO_THROW(LogMel(16000, 128, 25, 10));
}

}  // namespace
}  // namespace tenfold
