#include "experiments/hash.h"

#include <openssl/evp.h>

#include <fstream>
#include <vector>

#include "experiments/error.h"

namespace tenfold {

std::string Digest::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(64);
  for (const std::uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Digest Digest::from_hex(std::string_view hex) {
  const auto nibble = [&](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    throw Error(ErrorKind::data, "not a SHA-256 in hexadecimal: " + std::string(hex.substr(0, 80)));
  };
  if (hex.size() != 64) throw Error(ErrorKind::data, "not a SHA-256 in hexadecimal: " + std::string(hex.substr(0, 80)));
  Digest digest;
  for (std::size_t i = 0; i < 32; ++i)
    digest.bytes[i] = static_cast<std::uint8_t>(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
  return digest;
}

Hasher::Hasher() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr || EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_), EVP_sha256(), nullptr) != 1)
    throw Error(ErrorKind::internal, "OpenSSL offers no SHA-256");
}

Hasher::~Hasher() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_)); }

void Hasher::update(const void* data, std::size_t bytes) {
  if (EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), data, bytes) != 1)
    throw Error(ErrorKind::internal, "OpenSSL could not hash");
}

Digest Hasher::finish() {
  Digest digest;
  unsigned length = 0;
  if (EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), digest.bytes.data(), &length) != 1 || length != 32)
    throw Error(ErrorKind::internal, "OpenSSL could not hash");
  return digest;
}

Digest sha256(std::string_view text) {
  Hasher hasher;
  hasher.update(text);
  return hasher.finish();
}

Digest sha256_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorKind::data, path + ": cannot be opened for reading");
  Hasher hasher;
  std::vector<char> block(1 << 20);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0)
    hasher.update(block.data(), static_cast<std::size_t>(file.gcount()));
  if (file.bad()) throw Error(ErrorKind::data, path + ": reading failed");
  return hasher.finish();
}

}  // namespace tenfold
