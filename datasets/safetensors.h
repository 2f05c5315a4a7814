#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "experiments/hash.h"

namespace tenfold {

// The safetensors file format: 8 bytes of header length, a JSON header {name: {dtype, shape, data_offsets}},
// raw little-endian data. A file from elsewhere is hostile: every length is checked against the file before
// anything is allocated, offsets may not overlap or leave gaps, and the header is at most 100 MB.
struct TensorView {
  std::string dtype;  // F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};

std::size_t dtype_bytes(const std::string& dtype);  // 0 when unknown

class SafetensorsFile {
 public:
  // Maps the file read-only; views live as long as any copy of this object. Throws Error(data).
  static SafetensorsFile open(const std::filesystem::path& file);
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const TensorView& tensor(const std::string& name) const;                      // throws Error(data): file and name
  std::span<const float> floats(const std::string& name) const;                 // dtype F32
  std::span<const std::int64_t> integers(const std::string& name) const;        // dtype I64
  std::span<const std::int32_t> small_integers(const std::string& name) const;  // dtype I32
  const std::shared_ptr<const void>& mapping() const { return mapping_; }

 private:
  SafetensorsFile() = default;
  std::filesystem::path file_;
  std::shared_ptr<const void> mapping_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, TensorView> tensors_;
};

// Writes aside, fsyncs the file, renames, fsyncs the folder: after a crash the name holds the old file or the
// whole new one. Data are aligned to 64 bytes. Throws Error(storage). Returns the SHA-256 of the file.

Digest write_safetensors(const std::filesystem::path& file, const std::map<std::string, TensorView>& tensors,
                         const std::map<std::string, std::string>& metadata, bool sync = true);

}  // namespace tenfold
