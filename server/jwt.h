// JSON Web Tokens that an operator's identity provider signs: RFC 7519 claims
// in the compact form of RFC 7515, checked as RFC 8725 (best current practices)
// asks. The signature is libjwt's to verify; nothing of a token is believed
// before.
#ifndef DESCANT_SERVER_JWT_H_
#define DESCANT_SERVER_JWT_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// Of asymmetric keys only: with a shared secret the server could make tokens,
// and an API key does the same with less.
enum class JwtAlgorithm {
  kRs256,  // RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 bits and more
  kEs256,  // ECDSA with P-256 and SHA-256
};

struct JwtKey {
  std::string kid;
  JwtAlgorithm algorithm = JwtAlgorithm::kRs256;
  std::string pem;  // the public key
};

// INVALID_ARGUMENT: no PEM public key, or none for that algorithm.
absl::Status CheckJwtKey(const JwtKey& key);

struct JwtIssuer {
  std::string issuer;    // what `iss` must be
  std::string audience;  // what `aud` must be or hold
  std::string tenant_claim = "tenant";
  // Those that it may speak for; empty: all.
  std::vector<std::string> tenants;
  std::vector<JwtKey> keys;  // each passed CheckJwtKey
};

// What a token that is good says.
struct JwtClaims {
  std::string tenant;
  std::string kid;
};

// Immutable, thread-safe.
class JwtVerifier {
 public:
  // REQUIRES: no kid twice, among all issuers.
  explicit JwtVerifier(std::vector<JwtIssuer> issuers);

  // Three parts in base64url: what no API key is that --make-key made.
  static bool LooksLikeToken(absl::string_view text);

  // PEM by kid, of all issuers.
  std::map<std::string, std::string> Keys() const;

  // `now` in Unix seconds. `exp` must be there and `nbf` is heeded, each with a
  // leeway of 30 s. UNAUTHENTICATED with why, for the operator's log and never
  // for the caller; it repeats nothing of the token.
  absl::StatusOr<JwtClaims> Verify(absl::string_view token, double now) const;

 private:
  struct KnownKey {
    const JwtIssuer* issuer;
    const JwtKey* key;
  };

  const std::vector<JwtIssuer> issuers_;
  absl::flat_hash_map<std::string, KnownKey> keys_;  // by kid
};

}  // namespace descant

#endif  // DESCANT_SERVER_JWT_H_
