#include "datasets/image_shift.h"

#include <algorithm>
#include <cmath>

namespace tenfold {
namespace {

// Weights of a Gaussian cut off at three standard deviations, from the middle outwards; the whole kernel sums to 1.
std::vector<float> half_kernel(double sigma) {
  const auto radius = static_cast<std::size_t>(std::ceil(3 * sigma));
  std::vector<double> weights(radius + 1);
  double sum = 0;
  for (std::size_t i = 0; i <= radius; ++i) {
    const double distance = static_cast<double>(i) / sigma;
    weights[i] = std::exp(-0.5 * distance * distance);
    sum += (i == 0 ? 1 : 2) * weights[i];
  }
  std::vector<float> kernel;
  for (const double weight : weights) kernel.push_back(static_cast<float>(weight / sum));
  return kernel;
}

// One dimension of the blur: `lines` lines of `length` values, `step` apart, their beginnings `line_step` apart.
void blur_lines(const float* in, float* out, std::int64_t lines, std::int64_t length, std::int64_t step,
                std::int64_t line_step, const std::vector<float>& kernel) {
  for (std::int64_t line = 0; line < lines; ++line)
    for (std::int64_t i = 0; i < length; ++i) {
      const float* from = in + line * line_step;
      float sum = kernel[0] * from[i * step];
      for (std::int64_t d = 1; d < static_cast<std::int64_t>(kernel.size()); ++d)
        sum += kernel[static_cast<std::size_t>(d)] *
               (from[std::max<std::int64_t>(i - d, 0) * step] + from[std::min(i + d, length - 1) * step]);
      out[line * line_step + i * step] = sum;
    }
}

}  // namespace

void blur_image(std::span<float> image, ImageShape shape, double sigma_pixels, std::vector<float>& scratch) {
  const std::vector<float> kernel = half_kernel(sigma_pixels);
  const std::int64_t pixels = shape.height * shape.width;
  scratch.resize(static_cast<std::size_t>(pixels));
  for (std::int64_t c = 0; c < shape.channels; ++c) {
    float* channel = image.data() + c * pixels;
    blur_lines(channel, scratch.data(), shape.height, shape.width, 1, shape.width, kernel);
    blur_lines(scratch.data(), channel, shape.width, shape.height, shape.width, 1, kernel);
  }
}

void warp_image(std::span<float> image, ImageShape shape, const Warp& warp, std::vector<float>& scratch) {
  scratch.assign(image.begin(), image.end());
  const std::int64_t pixels = shape.height * shape.width;
  const double centre_x = static_cast<double>(shape.width - 1) / 2,
               centre_y = static_cast<double>(shape.height - 1) / 2;
  for (std::int64_t y = 0; y < shape.height; ++y)
    for (std::int64_t x = 0; x < shape.width; ++x) {
      const double dx = static_cast<double>(x) - centre_x, dy = static_cast<double>(y) - centre_y;
      const double from_x = std::clamp(warp.xx * dx + warp.xy * dy + centre_x + warp.offset_x, 0.0, 2 * centre_x);
      const double from_y = std::clamp(warp.yx * dx + warp.yy * dy + centre_y + warp.offset_y, 0.0, 2 * centre_y);
      const auto x0 = static_cast<std::int64_t>(from_x), y0 = static_cast<std::int64_t>(from_y);
      const std::int64_t x1 = std::min(x0 + 1, shape.width - 1), y1 = std::min(y0 + 1, shape.height - 1);
      const auto right = static_cast<float>(from_x - static_cast<double>(x0));
      const auto down = static_cast<float>(from_y - static_cast<double>(y0));
      for (std::int64_t c = 0; c < shape.channels; ++c) {
        const float* from = scratch.data() + c * pixels;
        const float above = from[y0 * shape.width + x0] * (1 - right) + from[y0 * shape.width + x1] * right;
        const float below = from[y1 * shape.width + x0] * (1 - right) + from[y1 * shape.width + x1] * right;
        image[static_cast<std::size_t>(c * pixels + y * shape.width + x)] = above * (1 - down) + below * down;
      }
    }
}

}  // namespace tenfold
