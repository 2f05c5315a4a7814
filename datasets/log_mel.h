#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tenfold {

// The log-mel spectrum of a recording. Per frame x of F samples (frame_ms), with the next one hop_ms later:
//   w[n] = (1 - cos(2 pi n / F)) / 2                       Hann window, periodic
//   X    = FFT of w x, padded with zeros to M, the next power of two
//   P[k] = c |X[k]|^2 / (M sum w^2), c = 2, for k = 0 and k = M/2 c = 1:   sum_k P[k] = sum (w x)^2 / sum w^2
//   E[m] = sum_k T_m(k) P[k],   y[m] = ln max(E[m], 1e-10)
// so a power of 1 is that of a signal at full scale (+-1) throughout, and the floor lies 100 dB below it. T_m are
// triangles of height 1 whose corners lie evenly on the mel scale from 0 to half the sample rate. The scale is Slaney's
// (Auditory Toolbox, Interval Research report 1998-010): f / (200/3) up to 1 kHz, 15 + 27 ln(f / 1000) / ln 6.4 above.
// Frames lie inside the recording: what follows the last whole one is left out, but a recording shorter than a frame
// is padded with zeros to one.
class LogMel {
 public:
  // Throws Error(config) where a frame has no samples or a band would hold no frequency of the FFT.
  LogMel(int sample_rate, int mels, double frame_ms, double hop_ms);

  int mels() const { return static_cast<int>(bands_.size()); }
  std::int64_t frame_samples() const { return static_cast<std::int64_t>(window_.size()); }
  std::int64_t hop_samples() const { return hop_; }
  std::int64_t fft_size() const { return static_cast<std::int64_t>(fft_size_); }
  std::int64_t frames(std::int64_t samples) const;  // of a recording of so many samples; 0 of none

  // Appends (frames, mels) rows; at most max_frames of them.
  void append(std::span<const float> samples, std::int64_t max_frames, std::vector<float>& rows) const;

 private:
  struct Band {
    std::size_t first;            // of its frequencies
    std::vector<double> weights;  // T_m from there on
  };
  std::vector<double> window_;  // (F) divided by the root of M sum w^2
  std::int64_t hop_;
  std::size_t fft_size_;
  std::vector<Band> bands_;
};

double mel_of_hertz(double hertz);
double hertz_of_mel(double mel);

}  // namespace tenfold
