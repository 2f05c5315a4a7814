#pragma once

#include <ATen/ATen.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "datasets/safetensors.h"

namespace tenfold::testing {

// A file of tests/golden, made by an independent program.
inline SafetensorsFile golden_file(const std::string& name) {
  const char* source = std::getenv("TENFOLD_SOURCE_DIR");
  return SafetensorsFile::open(std::filesystem::path(source ? source : ".") / "tests/golden" / (name + ".safetensors"));
}

// float32 or int64.
inline at::Tensor golden_tensor(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = file.tensor(name);
  const at::ScalarType type = view.dtype == "I64" ? at::kLong : at::kFloat;
  at::Tensor tensor = at::empty(view.shape, type);
  std::copy(view.data.begin(), view.data.end(), static_cast<std::byte*>(tensor.mutable_data_ptr()));
  return tensor;
}

}  // namespace tenfold::testing
