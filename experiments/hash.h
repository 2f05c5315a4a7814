#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tenfold {

// SHA-256. Identities of fits and trials, fingerprints of datasets, hashes of checkpoints.
struct Digest {
  std::array<std::uint8_t, 32> bytes{};
  std::string hex() const;
  static Digest from_hex(std::string_view hex);  // throws Error(data) when it is not 64 hex digits
  auto operator<=>(const Digest&) const = default;
};

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;
  void update(const void* data, std::size_t bytes);
  void update(std::string_view text) { update(text.data(), text.size()); }
  template <class T>
  void update_values(std::span<const T> values) {
    update(values.data(), values.size_bytes());
  }
  Digest finish();

 private:
  void* context_;  // EVP_MD_CTX
};

Digest sha256(std::string_view text);
Digest sha256_file(const std::string& path);  // throws Error(data)

}  // namespace tenfold
