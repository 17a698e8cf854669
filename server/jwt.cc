#include "server/jwt.h"

#include <jwt.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <algorithm>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "adapters/formats/json.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "server/limits.h"

namespace descant {
namespace {

constexpr double kLeewaySeconds = 30;
constexpr int kMinRsaBits = 2048;

absl::Status Refused(absl::string_view why) {
  return absl::UnauthenticatedError(absl::StrCat("token: ", why));
}

bool IsBase64Url(absl::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
           c == '_';
  });
}

const char* NameOf(JwtAlgorithm algorithm) {
  return algorithm == JwtAlgorithm::kRs256 ? "RS256" : "ES256";
}

// A part of the token as an object.
absl::StatusOr<JsonValue> ParsePart(absl::string_view part,
                                    absl::string_view name) {
  std::string text;
  if (!absl::WebSafeBase64Unescape(part, &text)) {
    return Refused(absl::StrCat(name, " is no base64url"));
  }
  const JsonLimits limits{limits::kMaxBearerBytes, limits::kMaxJwtDepth,
                          limits::kMaxJwtValues};
  absl::StatusOr<JsonValue> value = ParseJson(text, limits);
  if (!value.ok() || value->kind() != JsonValue::kObject) {
    return Refused(absl::StrCat(name, " is no JSON object, or too large"));
  }
  return value;
}

// "" where it isn't there, or no string.
std::string TextOf(const JsonValue& object, absl::string_view name) {
  const JsonValue* value = object.Find(name);
  return value != nullptr && value->kind() == JsonValue::kString
             ? value->string()
             : std::string();
}

// What the header must be for `key` to be tried at all. The algorithm is the
// key's, whatever a token says: else a public key could pass for a secret.
absl::Status CheckHeader(const JsonValue& header, const JwtKey& key) {
  if (TextOf(header, "alg") != NameOf(key.algorithm)) {
    return Refused("the algorithm is not its key's");
  }
  // Extensions that must be understood (RFC 7515, 4.1.11): there are none.
  if (header.Find("crit") != nullptr) return Refused("has crit");
  const JsonValue* type = header.Find("typ");
  if (type != nullptr && !(type->kind() == JsonValue::kString &&
                           absl::AsciiStrToUpper(type->string()) == "JWT")) {
    return Refused("typ is not JWT");
  }
  return absl::OkStatus();
}

absl::Status CheckSignature(absl::string_view token, const JwtKey& key) {
  const std::string text(token);
  jwt_t* decoded = nullptr;
  const int error =
      jwt_decode(&decoded, text.c_str(),
                 reinterpret_cast<const unsigned char*>(key.pem.data()),
                 static_cast<int>(key.pem.size()));
  const std::unique_ptr<jwt_t, void (*)(jwt_t*)> freer(decoded, jwt_free);
  ERR_clear_error();
  if (error != 0 || decoded == nullptr ||
      jwt_get_alg(decoded) != jwt_str_alg(NameOf(key.algorithm))) {
    return Refused("the signature is not its key's");
  }
  return absl::OkStatus();
}

bool HasAudience(const JsonValue& claims, const std::string& audience) {
  const JsonValue* value = claims.Find("aud");
  if (value == nullptr) return false;
  const auto is_it = [&audience](const JsonValue& one) {
    return one.kind() == JsonValue::kString && one.string() == audience;
  };
  if (value->kind() != JsonValue::kArray) return is_it(*value);
  return std::any_of(value->array().begin(), value->array().end(), is_it);
}

absl::Status CheckTimes(const JsonValue& claims, double now) {
  const JsonValue* end = claims.Find("exp");
  if (end == nullptr || !end->is_number()) return Refused("has no exp");
  if (now >= end->number() + kLeewaySeconds) return Refused("has expired");
  const JsonValue* begin = claims.Find("nbf");
  if (begin == nullptr) return absl::OkStatus();
  if (!begin->is_number()) return Refused("nbf is no time");
  if (now < begin->number() - kLeewaySeconds) {
    return Refused("is not valid yet");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckJwtKey(const JwtKey& key) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(key.pem.data(), static_cast<int>(key.pem.size())),
      BIO_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> parsed(
      PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
  ERR_clear_error();
  if (parsed == nullptr) {
    return absl::InvalidArgumentError("must hold a PEM public key");
  }
  if (key.algorithm == JwtAlgorithm::kRs256) {
    if (EVP_PKEY_get_base_id(parsed.get()) == EVP_PKEY_RSA &&
        EVP_PKEY_get_bits(parsed.get()) >= kMinRsaBits) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("must be an RSA key of at least ", kMinRsaBits, " bits"));
  }
  char group[64] = {};
  size_t size = 0;
  if (EVP_PKEY_get_base_id(parsed.get()) == EVP_PKEY_EC &&
      EVP_PKEY_get_group_name(parsed.get(), group, sizeof(group), &size) == 1 &&
      absl::string_view(group, size) == SN_X9_62_prime256v1) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("must be an EC key on P-256");
}

JwtVerifier::JwtVerifier(std::vector<JwtIssuer> issuers)
    : issuers_(std::move(issuers)) {
  for (const JwtIssuer& issuer : issuers_) {
    for (const JwtKey& key : issuer.keys) {
      DESCANT_CHECK(keys_.emplace(key.kid, KnownKey{&issuer, &key}).second);
    }
  }
}

std::map<std::string, std::string> JwtVerifier::Keys() const {
  std::map<std::string, std::string> keys;
  for (const auto& [kid, known] : keys_) keys[kid] = known.key->pem;
  return keys;
}

bool JwtVerifier::LooksLikeToken(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  return parts.size() == 3 &&
         std::all_of(parts.begin(), parts.end(), IsBase64Url);
}

absl::StatusOr<JwtClaims> JwtVerifier::Verify(absl::string_view token,
                                              double now) const {
  if (token.size() > limits::kMaxBearerBytes) return Refused("is too large");
  if (!LooksLikeToken(token)) return Refused("is no JWT");
  const std::vector<absl::string_view> parts = absl::StrSplit(token, '.');
  DESCANT_ASSIGN_OR_RETURN(const JsonValue header,
                           ParsePart(parts[0], "header"));
  const auto known = keys_.find(TextOf(header, "kid"));
  if (known == keys_.end()) return Refused("its kid is unknown");
  const auto& [issuer, key] = known->second;
  DESCANT_RETURN_IF_ERROR(CheckHeader(header, *key));
  DESCANT_RETURN_IF_ERROR(CheckSignature(token, *key));

  DESCANT_ASSIGN_OR_RETURN(const JsonValue claims,
                           ParsePart(parts[1], "payload"));
  if (TextOf(claims, "iss") != issuer->issuer) {
    return Refused("iss is not its key's issuer");
  }
  if (!HasAudience(claims, issuer->audience)) {
    return Refused("is for another audience");
  }
  DESCANT_RETURN_IF_ERROR(CheckTimes(claims, now));
  std::string tenant = TextOf(claims, issuer->tenant_claim);
  if (tenant.empty()) return Refused("names no tenant");
  if (!issuer->tenants.empty() &&
      std::find(issuer->tenants.begin(), issuer->tenants.end(), tenant) ==
          issuer->tenants.end()) {
    return Refused("its issuer may not speak for that tenant");
  }
  return JwtClaims{std::move(tenant), key->kid};
}

}  // namespace descant
