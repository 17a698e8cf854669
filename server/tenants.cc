#include "server/tenants.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "adapters/name.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "runtime/core/fairness.h"
#include "server/config_values.h"
#include "server/jwt_config.h"
#include "server/limits.h"
#include "server/operator_file.h"
#include "server/yaml_file.h"

namespace descant {
namespace {

constexpr size_t kMaxFileBytes = 16 << 20;
constexpr size_t kMaxKeys = 2;
constexpr double kSlowestRate = 0.01;
constexpr double kFastestRate = 1e9;

struct NamedRole {
  const char* name;
  Role role;
};
constexpr NamedRole kRoles[] = {{"generate", Role::kGenerate},
                                {"manage-adapters", Role::kManageAdapters},
                                {"operator", Role::kOperator}};

// A URI as the SPIFFE ID standard has it, with a path. Plain characters only,
// so that what is compared byte for byte is spelled in one way.
bool IsSpiffeId(absl::string_view id) {
  if (id.size() > limits::kMaxSpiffeIdBytes ||
      !absl::ConsumePrefix(&id, "spiffe://")) {
    return false;
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(id, '/');
  const auto is_plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' ||
           c == '-' || c == '_';
  };
  return parts.size() >= 2 &&
         absl::c_none_of(
             parts[0],
             [](char c) {
               return absl::ascii_isupper(static_cast<unsigned char>(c));
             }) &&
         absl::c_all_of(parts, [&is_plain](absl::string_view part) {
           return !part.empty() && part != "." && part != ".." &&
                  absl::c_all_of(part, is_plain);
         });
}

}  // namespace

// Reads one document.
class TenantsReader {
 public:
  explicit TenantsReader(const std::string& path) : path_(path) {}

  absl::StatusOr<std::shared_ptr<const TenantDirectory>> Read(
      const YAML::Node& root) {
    DESCANT_ASSIGN_OR_RETURN(YamlFields fields,
                             ReadYamlFields(path_, root, {"tenants"}, {"jwt"}));
    has_jwt_ = fields.count("jwt") > 0;
    const YAML::Node list = fields["tenants"];
    if (!list.IsSequence() || list.size() == 0) {
      return Error(root, "tenants: must be a list of at least one tenant");
    }
    for (const YAML::Node& tenant : list) {
      DESCANT_RETURN_IF_ERROR(ReadTenant(tenant));
    }
    if (has_jwt_) DESCANT_RETURN_IF_ERROR(ReadJwt(fields["jwt"]));
    return std::shared_ptr<const TenantDirectory>(std::move(directory_));
  }

 private:
  absl::Status Error(const YAML::Node& at, absl::string_view message) const {
    return YamlError(path_, at, message);
  }

  absl::StatusOr<std::string> IdOf(const YAML::Node& node) {
    if (!node.IsScalar() || !ValidateAdapterName(node.Scalar(), "").ok()) {
      return Error(node,
                   "id: must be 1 to 63 letters, digits, '.', '_' or '-', "
                   "begin with a letter or digit, hold no \"..\" and not be "
                   "base or none");
    }
    return node.Scalar();
  }

  absl::Status ReadTenant(const YAML::Node& node) {
    DESCANT_ASSIGN_OR_RETURN(
        YamlFields fields,
        ReadYamlFields(path_, node, {"id"},
                       {"weight", "roles", "limits", "keys", "spiffe-ids"}));
    auto tenant = std::make_shared<Tenant>();
    DESCANT_ASSIGN_OR_RETURN(tenant->id, IdOf(fields["id"]));
    const std::string where = absl::StrCat("tenant ", tenant->id, ": ");
    if (!directory_->tenants_.emplace(tenant->id, tenant).second) {
      return Error(node, absl::StrCat(where, "given twice"));
    }
    directory_->in_order_.push_back(tenant);
    const auto at = [&](const char* name, absl::Status status) {
      if (status.ok()) return status;
      return Error(fields[name],
                   absl::StrCat(where, name, ": ", status.message()));
    };
    if (fields.count("weight") > 0) {
      DESCANT_RETURN_IF_ERROR(
          at("weight", ParseNumber(TextOf(fields["weight"]), 1,
                                   kMaxTenantWeight, &tenant->weight)));
    }
    if (fields.count("roles") > 0) {
      DESCANT_RETURN_IF_ERROR(
          at("roles", ReadRoles(fields["roles"], &tenant->roles)));
    }
    if (fields.count("limits") > 0) {
      DESCANT_RETURN_IF_ERROR(
          ReadLimits(fields["limits"], where, &tenant->limits));
    }
    if (fields.count("keys") > 0) {
      DESCANT_RETURN_IF_ERROR(ReadKeys(fields["keys"], where, tenant));
    }
    if (fields.count("spiffe-ids") > 0) {
      DESCANT_RETURN_IF_ERROR(
          ReadSpiffeIds(fields["spiffe-ids"], where, tenant));
    }
    if (fields.count("keys") + fields.count("spiffe-ids") == 0 && !has_jwt_) {
      return Error(node, absl::StrCat(where,
                                      "keys: is missing, and so are spiffe-ids "
                                      "and the file's jwt"));
    }
    return absl::OkStatus();
  }

  absl::Status ReadKeys(const YAML::Node& keys, const std::string& where,
                        const std::shared_ptr<const Tenant>& tenant) {
    if (!keys.IsSequence() || keys.size() == 0 || keys.size() > kMaxKeys) {
      return Error(keys,
                   absl::StrCat(where, "keys: must be a list of one or two"));
    }
    std::set<std::string> ids;
    for (const YAML::Node& key : keys) {
      DESCANT_RETURN_IF_ERROR(ReadKey(key, tenant, &ids));
    }
    return absl::OkStatus();
  }

  absl::Status ReadSpiffeIds(const YAML::Node& list, const std::string& where,
                             const std::shared_ptr<const Tenant>& tenant) {
    if (!list.IsSequence() || list.size() == 0 ||
        list.size() > limits::kMaxSpiffeIds) {
      return Error(list, absl::StrCat(where,
                                      "spiffe-ids: must be a list of 1 "
                                      "to ",
                                      limits::kMaxSpiffeIds));
    }
    for (const YAML::Node& id : list) {
      if (!IsSpiffeId(TextOf(id))) {
        return Error(id, absl::StrCat(where,
                                      "spiffe-ids: each must be "
                                      "spiffe://TRUST-DOMAIN/PATH, whole"));
      }
      if (!directory_->spiffe_ids_.emplace(id.Scalar(), tenant).second) {
        return Error(id, absl::StrCat(where, "spiffe-ids: one is given twice"));
      }
    }
    return absl::OkStatus();
  }

  // After the tenants.
  absl::Status ReadJwt(const YAML::Node& node) {
    DESCANT_ASSIGN_OR_RETURN(std::vector<JwtIssuer> issuers,
                             ReadJwtIssuers(path_, node));
    for (const JwtIssuer& issuer : issuers) {
      for (const std::string& tenant : issuer.tenants) {
        if (directory_->Has(tenant)) continue;
        return Error(node, absl::StrCat("jwt: tenants: there is no tenant ",
                                        LogSafe(tenant)));
      }
    }
    directory_->jwt_ = std::make_unique<JwtVerifier>(std::move(issuers));
    return absl::OkStatus();
  }

  static absl::Status ReadRoles(const YAML::Node& node, Roles* roles) {
    *roles = Roles();
    if (node.IsSequence()) {
      for (const YAML::Node& role : node) {
        const auto* named =
            std::find_if(std::begin(kRoles), std::end(kRoles),
                         [&role](const NamedRole& candidate) {
                           return TextOf(role) == candidate.name;
                         });
        if (named == std::end(kRoles)) {
          *roles = Roles();
          break;
        }
        *roles = *roles | named->role;
      }
    }
    if (!roles->empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "must be a list of generate, manage-adapters, operator");
  }

  absl::Status ReadLimits(const YAML::Node& node, const std::string& where,
                          TenantLimits* limits) {
    DESCANT_ASSIGN_OR_RETURN(
        const YamlFields fields,
        ReadYamlFields(path_, node, {},
                       {"requests-per-second", "tokens-per-second", "sequences",
                        "queued-tokens", "adapters", "adapter-bytes",
                        "adapter-rank", "adapter-slots", "adapter-slot-share",
                        "prefix-cache-blocks", "uploads"}));
    for (const auto& [name, value] : fields) {
      const absl::Status read = ReadLimit(name, TextOf(value), limits);
      if (!read.ok()) {
        return Error(
            value, absl::StrCat(where, "limits: ", name, ": ", read.message()));
      }
    }
    return absl::OkStatus();
  }

  // All at least 1: a limit of nothing is a role or a key that isn't given.
  static absl::Status ReadLimit(const std::string& name,
                                const std::string& text, TenantLimits* limits) {
    constexpr int32_t kMany = 1 << 30;
    int32_t number = 0;
    if (name == "requests-per-second") {
      return ParseRate(text, &limits->requests_per_second);
    }
    if (name == "tokens-per-second") {
      return ParseRate(text, &limits->tokens_per_second);
    }
    if (name == "adapter-bytes") {
      return ParseBytes(text, 1, &limits->store.max_bytes);
    }
    DESCANT_RETURN_IF_ERROR(ParseNumber(text, 1, kMany, &number));
    if (name == "sequences") limits->sequences = number;
    if (name == "queued-tokens") limits->queued_tokens = number;
    if (name == "adapters") limits->store.max_adapters = number;
    if (name == "adapter-rank") limits->adapter_rank = number;
    if (name == "adapter-slots") limits->slots.most = number;
    if (name == "adapter-slot-share") limits->slots.share = number;
    if (name == "prefix-cache-blocks") limits->cached_blocks = number;
    if (name == "uploads") limits->store.max_uploads = number;
    return absl::OkStatus();
  }

  static absl::Status ParseRate(const std::string& text, double* rate) {
    double value = 0;
    if (absl::SimpleAtod(text, &value) && value >= kSlowestRate &&
        value <= kFastestRate) {
      *rate = value;
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "must be a number in [", kSlowestRate, ", ", kFastestRate, "]"));
  }

  // "" where it isn't plain text.
  static std::string TextOf(const YAML::Node& node) {
    return node.IsScalar() ? node.Scalar() : std::string();
  }

  absl::Status ReadKey(const YAML::Node& node,
                       const std::shared_ptr<const Tenant>& owner,
                       std::set<std::string>* ids) {
    const std::string& tenant = owner->id;
    DESCANT_ASSIGN_OR_RETURN(YamlFields fields,
                             ReadYamlFields(path_, node, {"id", "sha256"}));
    DESCANT_ASSIGN_OR_RETURN(const std::string id, IdOf(fields["id"]));
    if (!ids->insert(id).second) {
      return Error(node, absl::StrCat("key ", id, " of tenant ", tenant,
                                      ": given twice"));
    }
    const YAML::Node hash = fields["sha256"];
    if (!hash.IsScalar() || !IsSha256Hex(hash.Scalar())) {
      return Error(node, absl::StrCat("key ", id, " of tenant ", tenant,
                                      ": sha256: must be 64 lower-case hex "
                                      "digits"));
    }
    if (!hashes_.insert(hash.Scalar()).second) {
      return Error(node, absl::StrCat("key ", id, " of tenant ", tenant,
                                      ": another key has the same sha256"));
    }
    const std::string bytes = absl::HexStringToBytes(hash.Scalar());
    TenantDirectory::Entry entry;
    std::copy(bytes.begin(), bytes.end(), entry.key_hash.begin());
    entry.key_id = id;
    entry.tenant = owner;
    directory_->entries_.push_back(std::move(entry));
    return absl::OkStatus();
  }

  const std::string path_;
  bool has_jwt_ = false;
  std::set<std::string> hashes_;
  std::shared_ptr<TenantDirectory> directory_{new TenantDirectory};
};

absl::StatusOr<std::shared_ptr<const TenantDirectory>> TenantDirectory::Load(
    const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(const std::string content,
                           ReadSecretFile(path, kMaxFileBytes, 077));
  return Parse(content, path);
}

absl::StatusOr<std::shared_ptr<const TenantDirectory>> TenantDirectory::Parse(
    const std::string& content, const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(const YAML::Node root, ParseYaml(content, path));
  return TenantsReader(path).Read(root);
}

bool TenantDirectory::Has(absl::string_view tenant) const {
  return tenants_.contains(tenant);
}

std::map<std::string, Sha256Digest> TenantDirectory::Credentials() const {
  std::map<std::string, Sha256Digest> all;
  for (const Entry& entry : entries_) {
    all[absl::StrCat(entry.tenant->id, "/", entry.key_id)] = entry.key_hash;
  }
  for (const auto& [id, tenant] : spiffe_ids_) {
    all[absl::StrCat(tenant->id, " ", id)] = Sha256Of(id);
  }
  if (jwt_ == nullptr) return all;
  for (const auto& [kid, pem] : jwt_->Keys()) {
    all[absl::StrCat("jwt ", kid)] = Sha256Of(pem);
  }
  return all;
}

absl::StatusOr<Identity> TenantDirectory::Authenticate(absl::string_view bearer,
                                                       double now) const {
  const Sha256Digest hash = Sha256Of(bearer);
  const Entry* found = nullptr;
  // Never ends early, and compares all bytes of each.
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(hash.data(), entry.key_hash.data(), hash.size()) == 0) {
      found = &entry;
    }
  }
  if (found != nullptr) {
    return Identity{found->tenant, IdentityKind::kApiKey, found->key_id};
  }
  if (jwt_ == nullptr || !JwtVerifier::LooksLikeToken(bearer)) {
    return absl::UnauthenticatedError("no tenant has this key");
  }
  DESCANT_ASSIGN_OR_RETURN(JwtClaims claims, jwt_->Verify(bearer, now));
  const auto tenant = tenants_.find(claims.tenant);
  if (tenant == tenants_.end()) {
    return absl::UnauthenticatedError("token: there is no such tenant");
  }
  return Identity{tenant->second, IdentityKind::kJwt, std::move(claims.kid)};
}

Identity TenantDirectory::FindCertificate(absl::string_view spiffe_id) const {
  const auto tenant = spiffe_ids_.find(spiffe_id);
  if (tenant == spiffe_ids_.end()) return {};
  return {tenant->second, IdentityKind::kCertificate, std::string(spiffe_id)};
}

absl::Status TenantsFile::Reload() {
  auto directory = TenantDirectory::Load(path_);
  MutexLock lock(&mutex_);
  stale_ = !directory.ok();
  if (stale_) return directory.status();
  current_ = *std::move(directory);
  return absl::OkStatus();
}

std::string MakeApiKey() {
  std::array<char, 32> bytes;
  DESCANT_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()),
                           bytes.size()) == 1);
  return "dk_" + absl::WebSafeBase64Escape(
                     absl::string_view(bytes.data(), bytes.size()));
}

}  // namespace descant
