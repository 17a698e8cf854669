// JSON Web Tokens for tests, good and bad, signed by OpenSSL alone: what is
// tested reads them with another library.
#ifndef DESCANT_TESTS_SERVER_TOKENS_H_
#define DESCANT_TESTS_SERVER_TOKENS_H_

#include <openssl/evp.h>

#include <memory>
#include <string>

namespace descant {

enum class TokenSignature { kRs256, kEs256, kHs256, kNone };

class TokenSigner {
 public:
  // kRs256 (2048 bits) or kEs256; `group` is the curve's.
  explicit TokenSigner(TokenSignature kind, const std::string& group = "P-256",
                       unsigned rsa_bits = 2048);

  std::string public_pem() const;

  // header.payload.signature, of texts as they are given. kHs256 takes this
  // key's public PEM as the secret, as an attacker would.
  std::string Sign(const std::string& header, const std::string& payload,
                   TokenSignature how) const;
  std::string Sign(const std::string& header,
                   const std::string& payload) const {
    return Sign(header, payload, kind_);
  }

 private:
  struct Deleter {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };

  const TokenSignature kind_;
  std::unique_ptr<EVP_PKEY, Deleter> key_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_SERVER_TOKENS_H_
