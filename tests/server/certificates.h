// A certificate authority for tests: EC P-256 keys, made when asked for.
#ifndef DESCANT_TESTS_SERVER_CERTIFICATES_H_
#define DESCANT_TESTS_SERVER_CERTIFICATES_H_

#include <cstdint>
#include <memory>
#include <string>

#include "openssl/evp.h"
#include "openssl/x509.h"

namespace descant {

struct PemPair {
  std::string certificate;
  std::string key;
};

// From when to when, in seconds from now.
struct Validity {
  int64_t begin = -60;
  int64_t end = 3600;
};

class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name);

  // Its own certificate.
  const std::string& certificate() const { return pem_; }
  // `names` as OpenSSL writes subjectAltName: "DNS:localhost,IP:127.0.0.1".
  PemPair Issue(const std::string& names, const Validity& validity = {});

 private:
  struct Deleter {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  using Key = std::unique_ptr<EVP_PKEY, Deleter>;
  using Certificate = std::unique_ptr<X509, Deleter>;

  // Signed by this authority; by `key` itself where there is none yet.
  Certificate Sign(EVP_PKEY* key, const std::string& subject,
                   const std::string& names, const Validity& validity);

  Key key_;
  Certificate certificate_;
  std::string pem_;
  int64_t serial_ = 0;
};

// A private key alone, as PEM.
std::string ToPem(EVP_PKEY* key);
std::string PublicToPem(EVP_PKEY* key);

// Replaces the file as one step; `mode` as chmod's.
void WriteFileAtomically(const std::string& path, const std::string& content,
                         uint32_t mode = 0600);

}  // namespace descant

#endif  // DESCANT_TESTS_SERVER_CERTIFICATES_H_
