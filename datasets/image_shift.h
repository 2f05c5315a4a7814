#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tenfold {

struct ImageShape {
  std::int64_t channels, height, width;
};

// Where output pixel (x, y) is read from: source = matrix (pixel - centre) + centre + offset.
struct Warp {
  double xx = 1, xy = 0, yx = 0, yy = 1;
  double offset_x = 0, offset_y = 0;
};

// In and out: (channels, height, width). Outside the image, its nearest pixel counts.
void blur_image(std::span<float> image, ImageShape shape, double sigma_pixels, std::vector<float>& scratch);
void warp_image(std::span<float> image, ImageShape shape, const Warp& warp, std::vector<float>& scratch);  // bilinear

}  // namespace tenfold
