#include "adapters/identity.h"

#include <openssl/evp.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/little_endian.h"

namespace descant {
namespace {

// Changes whenever the meaning of a digest does.
constexpr absl::string_view kTag = "descant adapter v1";

void UpdateNumber(uint64_t value, Sha256* hash) {
  std::string bytes;
  AppendLittleEndian(value, &bytes);
  hash->Update(bytes);
}

void UpdateText(absl::string_view text, Sha256* hash) {
  UpdateNumber(text.size(), hash);
  hash->Update(text);
}

}  // namespace

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  DESCANT_CHECK(context_->evp != nullptr &&
                EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr) == 1);
}

Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::Update(absl::Span<const char> data) {
  DESCANT_CHECK(EVP_DigestUpdate(context_->evp, data.data(), data.size()) == 1);
}

Sha256Digest Sha256::Finish() {
  Sha256Digest digest;
  DESCANT_CHECK(EVP_DigestFinal_ex(context_->evp, digest.data(), nullptr) == 1);
  return digest;
}

Sha256Digest Sha256Of(absl::string_view data) {
  Sha256 hash;
  hash.Update(data);
  return hash.Finish();
}

std::string HexOf(const Sha256Digest& digest) {
  return absl::BytesToHexString(absl::string_view(
      reinterpret_cast<const char*>(digest.data()), digest.size()));
}

std::string AdapterDigest(absl::string_view canonical_config,
                          const SafetensorsIndex& index,
                          absl::Span<const Sha256Digest> tensor_hashes,
                          absl::string_view base_fingerprint) {
  DESCANT_CHECK(index.tensors.size() == tensor_hashes.size());
  Sha256 hash;
  UpdateText(kTag, &hash);
  UpdateText(canonical_config, &hash);
  UpdateNumber(index.tensors.size(), &hash);
  for (size_t i = 0; i < index.tensors.size(); ++i) {
    const SafetensorsTensor& tensor = index.tensors[i];
    UpdateText(tensor.name, &hash);
    UpdateText(DtypeName(tensor.dtype), &hash);
    UpdateNumber(tensor.shape.size(), &hash);
    for (const uint64_t dim : tensor.shape) UpdateNumber(dim, &hash);
    hash.Update(absl::string_view(
        reinterpret_cast<const char*>(tensor_hashes[i].data()),
        tensor_hashes[i].size()));
  }
  UpdateText(base_fingerprint, &hash);
  return absl::StrCat("sha256:", HexOf(hash.Finish()));
}

}  // namespace descant
