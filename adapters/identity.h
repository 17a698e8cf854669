// Identity by content: every cache, lease and blob is keyed by this digest.
#ifndef DESCANT_ADAPTERS_IDENTITY_H_
#define DESCANT_ADAPTERS_IDENTITY_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/formats/safetensors.h"

namespace descant {

using Sha256Digest = std::array<uint8_t, 32>;

// Incremental SHA-256 (OpenSSL). Move-only; one thread.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void Update(absl::Span<const char> data);
  // Call once.
  Sha256Digest Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

Sha256Digest Sha256Of(absl::string_view data);
std::string HexOf(const Sha256Digest& digest);  // 64 lower-case digits

// "sha256:<hex>" over (tag, canonical config, tensors sorted by name, base
// fingerprint). A tensor enters as name, dtype, shape and the SHA-256 of its
// bytes, so that a stream can be hashed in file order. All parts are length-
// prefixed. `tensor_hashes[i]` belongs to `index.tensors[i]`.
std::string AdapterDigest(absl::string_view canonical_config,
                          const SafetensorsIndex& index,
                          absl::Span<const Sha256Digest> tensor_hashes,
                          absl::string_view base_fingerprint);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_IDENTITY_H_
