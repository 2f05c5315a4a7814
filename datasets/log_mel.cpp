#include "datasets/log_mel.h"

#include <kissfft/kissfft.hh>

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <numbers>
#include <string>

#include "datasets/label_table.h"
#include "experiments/error.h"

namespace tenfold {
namespace {

constexpr double kFloor = 1e-10;
constexpr double kHertzPerMel = 200.0 / 3, kKneeHertz = 1000, kKneeMel = 15;
const double kLogStep = std::log(6.4) / 27;

std::int64_t samples_of(double ms, int sample_rate) { return std::llround(ms * sample_rate / 1000); }

}  // namespace

double mel_of_hertz(double hertz) {
  return hertz < kKneeHertz ? hertz / kHertzPerMel : kKneeMel + std::log(hertz / kKneeHertz) / kLogStep;
}

double hertz_of_mel(double mel) {
  return mel < kKneeMel ? mel * kHertzPerMel : kKneeHertz * std::exp((mel - kKneeMel) * kLogStep);
}

LogMel::LogMel(int sample_rate, int mels, double frame_ms, double hop_ms) : hop_(samples_of(hop_ms, sample_rate)) {
  const std::int64_t frame = samples_of(frame_ms, sample_rate);
  const std::string rate = " at " + std::to_string(sample_rate) + " samples a second";
  if (frame < 4)
    throw Error(ErrorKind::config, "dataset.frame_ms: " + LabelTable::number_name(frame_ms) + rate + " is " +
                                       std::to_string(frame) + " samples; a spectrum takes at least 4");
  if (hop_ < 1)
    throw Error(ErrorKind::config,
                "dataset.hop_ms: " + LabelTable::number_name(hop_ms) + rate + " is less than one sample");
  fft_size_ = std::bit_ceil(static_cast<std::size_t>(frame));

  window_.resize(static_cast<std::size_t>(frame));
  double squares = 0;
  for (std::size_t n = 0; n < window_.size(); ++n) {
    window_[n] = 0.5 - 0.5 * std::cos(2 * std::numbers::pi * static_cast<double>(n) / static_cast<double>(frame));
    squares += window_[n] * window_[n];
  }
  for (double& w : window_) w /= std::sqrt(squares * static_cast<double>(fft_size_));

  const double bin_hertz = static_cast<double>(sample_rate) / static_cast<double>(fft_size_);
  const double top = mel_of_hertz(sample_rate / 2.0);
  const auto corner = [&](int i) { return hertz_of_mel(top * i / (mels + 1)); };
  for (int m = 0; m < mels; ++m) {
    const double low = corner(m), centre = corner(m + 1), high = corner(m + 2);
    Band band{static_cast<std::size_t>(low / bin_hertz) + 1, {}};
    for (std::size_t k = band.first; k <= fft_size_ / 2; ++k) {
      const double hertz = static_cast<double>(k) * bin_hertz;
      const double weight = std::min((hertz - low) / (centre - low), (high - hertz) / (high - centre));
      if (weight <= 0) break;
      band.weights.push_back(weight);
    }
    if (band.weights.empty())
      throw Error(ErrorKind::config, "dataset.mels: " + std::to_string(mels) + " bands are more than frames of " +
                                         LabelTable::number_name(frame_ms) + " ms" + rate + " can tell apart (band " +
                                         std::to_string(m + 1) + ", around " + std::to_string(std::lround(centre)) +
                                         " Hz, holds no frequency); use fewer bands or a longer dataset.frame_ms");
    bands_.push_back(std::move(band));
  }
}

std::int64_t LogMel::frames(std::int64_t samples) const {
  if (samples <= 0) return 0;
  return samples <= frame_samples() ? 1 : 1 + (samples - frame_samples()) / hop_;
}

void LogMel::append(std::span<const float> samples, std::int64_t max_frames, std::vector<float>& rows) const {
  const auto count = static_cast<std::size_t>(std::min(frames(static_cast<std::int64_t>(samples.size())), max_frames));
  // A real transform of M values runs as a complex one of M / 2.
  const kissfft<double> transform(fft_size_ / 2, false);
  std::vector<double> input(fft_size_, 0.0), power(fft_size_ / 2 + 1);
  std::vector<std::complex<double>> spectrum(fft_size_ / 2);
  rows.reserve(rows.size() + count * bands_.size());
  for (std::size_t frame = 0; frame < count; ++frame) {
    const auto rest = samples.subspan(frame * static_cast<std::size_t>(hop_));
    for (std::size_t n = 0; n < window_.size(); ++n)
      input[n] = n < rest.size() ? window_[n] * static_cast<double>(rest[n]) : 0.0;
    transform.transform_real(input.data(), spectrum.data());
    // The first element holds the two that are real: of frequency 0 and of half the sample rate.
    power.front() = spectrum[0].real() * spectrum[0].real();
    power.back() = spectrum[0].imag() * spectrum[0].imag();
    for (std::size_t k = 1; k < spectrum.size(); ++k) power[k] = 2 * std::norm(spectrum[k]);
    for (const Band& band : bands_) {
      double energy = 0;
      for (std::size_t k = 0; k < band.weights.size(); ++k) energy += band.weights[k] * power[band.first + k];
      rows.push_back(static_cast<float>(std::log(std::max(energy, kFloor))));
    }
  }
}

}  // namespace tenfold
