#include "tests/server/tokens.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "tests/server/certificates.h"

namespace descant {
namespace {

std::string SignedBy(EVP_PKEY* key, const std::string& text) {
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  DESCANT_CHECK(
      EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key) == 1);
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  size_t size = 0;
  DESCANT_CHECK(EVP_DigestSign(context, nullptr, &size, bytes, text.size()) ==
                1);
  std::string signature(size, '\0');
  DESCANT_CHECK(EVP_DigestSign(context,
                               reinterpret_cast<unsigned char*>(&signature[0]),
                               &size, bytes, text.size()) == 1);
  signature.resize(size);
  EVP_MD_CTX_free(context);
  return signature;
}

// r and s of 32 bytes each, of what OpenSSL writes as DER (RFC 7518, 3.4).
std::string RawEcdsa(const std::string& der) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* const signature =
      d2i_ECDSA_SIG(nullptr, &bytes, static_cast<long>(der.size()));
  DESCANT_CHECK(signature != nullptr);
  std::vector<unsigned char> raw(64);
  BN_bn2binpad(ECDSA_SIG_get0_r(signature), raw.data(), 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(signature), raw.data() + 32, 32);
  ECDSA_SIG_free(signature);
  return std::string(raw.begin(), raw.end());
}

std::string Hmac(const std::string& secret, const std::string& text) {
  unsigned char digest[32];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest,
       &size);
  return std::string(digest, digest + size);
}

}  // namespace

TokenSigner::TokenSigner(TokenSignature kind, const std::string& group,
                         unsigned rsa_bits)
    : kind_(kind),
      key_(kind == TokenSignature::kRs256 ? EVP_RSA_gen(rsa_bits)
                                          : EVP_EC_gen(group.c_str())) {
  DESCANT_CHECK(key_ != nullptr);
}

std::string TokenSigner::public_pem() const { return PublicToPem(key_.get()); }

std::string TokenSigner::Sign(const std::string& header,
                              const std::string& payload,
                              TokenSignature how) const {
  const std::string text = absl::StrCat(absl::WebSafeBase64Escape(header), ".",
                                        absl::WebSafeBase64Escape(payload));
  std::string signature;
  switch (how) {
    case TokenSignature::kRs256:
      signature = SignedBy(key_.get(), text);
      break;
    case TokenSignature::kEs256:
      signature = RawEcdsa(SignedBy(key_.get(), text));
      break;
    case TokenSignature::kHs256:
      signature = Hmac(public_pem(), text);
      break;
    case TokenSignature::kNone:
      break;
  }
  return absl::StrCat(text, ".", absl::WebSafeBase64Escape(signature));
}

}  // namespace descant
