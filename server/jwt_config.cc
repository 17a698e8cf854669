#include "server/jwt_config.h"

#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/limits.h"
#include "server/operator_file.h"

namespace descant {
namespace {

constexpr uint64_t kMaxPemBytes = 64 << 10;
constexpr size_t kMaxTextBytes = 1024;

class IssuersReader {
 public:
  explicit IssuersReader(const std::string& path) : path_(path) {}

  absl::StatusOr<std::vector<JwtIssuer>> Read(const YAML::Node& list) {
    if (!list.IsSequence() || list.size() == 0 ||
        list.size() > limits::kMaxJwtIssuers) {
      return YamlError(path_, list,
                       absl::StrCat("jwt: must be a list of 1 to ",
                                    limits::kMaxJwtIssuers, " issuers"));
    }
    std::vector<JwtIssuer> issuers;
    for (const YAML::Node& node : list) {
      DESCANT_ASSIGN_OR_RETURN(JwtIssuer issuer, ReadIssuer(node));
      issuers.push_back(std::move(issuer));
    }
    return issuers;
  }

 private:
  absl::StatusOr<std::string> Text(const YAML::Node& node, const char* name) {
    if (!node.IsScalar() || node.Scalar().empty() ||
        node.Scalar().size() > kMaxTextBytes) {
      return YamlError(path_, node,
                       absl::StrCat("jwt: ", name, ": must be text"));
    }
    return node.Scalar();
  }

  absl::StatusOr<JwtIssuer> ReadIssuer(const YAML::Node& node) {
    DESCANT_ASSIGN_OR_RETURN(
        YamlFields fields,
        ReadYamlFields(path_, node, {"issuer", "audience", "keys"},
                       {"tenant-claim", "tenants"}));
    JwtIssuer issuer;
    DESCANT_ASSIGN_OR_RETURN(issuer.issuer, Text(fields["issuer"], "issuer"));
    DESCANT_ASSIGN_OR_RETURN(issuer.audience,
                             Text(fields["audience"], "audience"));
    if (fields.count("tenant-claim") > 0) {
      DESCANT_ASSIGN_OR_RETURN(issuer.tenant_claim,
                               Text(fields["tenant-claim"], "tenant-claim"));
    }
    if (fields.count("tenants") > 0) {
      const YAML::Node tenants = fields["tenants"];
      if (!tenants.IsSequence() || tenants.size() == 0) {
        return YamlError(path_, node,
                         "jwt: tenants: must be a list of tenants");
      }
      for (const YAML::Node& tenant : tenants) {
        DESCANT_ASSIGN_OR_RETURN(std::string id, Text(tenant, "tenants"));
        issuer.tenants.push_back(std::move(id));
      }
    }
    const YAML::Node keys = fields["keys"];
    if (!keys.IsSequence() || keys.size() == 0 ||
        keys.size() > limits::kMaxJwtKeys) {
      return YamlError(path_, node,
                       absl::StrCat("jwt: keys: must be a list of 1 to ",
                                    limits::kMaxJwtKeys));
    }
    for (const YAML::Node& key : keys) {
      DESCANT_ASSIGN_OR_RETURN(JwtKey read, ReadKey(key));
      issuer.keys.push_back(std::move(read));
    }
    return issuer;
  }

  absl::StatusOr<JwtKey> ReadKey(const YAML::Node& node) {
    DESCANT_ASSIGN_OR_RETURN(
        YamlFields fields,
        ReadYamlFields(path_, node, {"kid", "algorithm", "file"}));
    JwtKey key;
    DESCANT_ASSIGN_OR_RETURN(key.kid, Text(fields["kid"], "kid"));
    if (!kids_.insert(key.kid).second) {
      return YamlError(path_, node, "jwt: a kid is given twice");
    }
    DESCANT_ASSIGN_OR_RETURN(const std::string algorithm,
                             Text(fields["algorithm"], "algorithm"));
    if (algorithm != "RS256" && algorithm != "ES256") {
      return YamlError(path_, node, "jwt: algorithm: must be RS256 or ES256");
    }
    key.algorithm =
        algorithm == "RS256" ? JwtAlgorithm::kRs256 : JwtAlgorithm::kEs256;
    DESCANT_ASSIGN_OR_RETURN(const std::string file,
                             Text(fields["file"], "file"));
    // An absolute path stays as it is.
    const std::string pem_path =
        (std::filesystem::path(path_).parent_path() / file).string();
    auto pem = ReadOperatorFile(pem_path, kMaxPemBytes);
    const absl::Status status =
        pem.ok() ? Check(&key, *std::move(pem)) : pem.status();
    if (status.ok()) return key;
    return YamlError(
        path_, node,
        absl::StrCat("jwt: ", LogSafe(key.kid), ": ", status.message()));
  }

  static absl::Status Check(JwtKey* key, std::string pem) {
    key->pem = std::move(pem);
    return CheckJwtKey(*key);
  }

  const std::string path_;
  std::set<std::string> kids_;
};

}  // namespace

absl::StatusOr<std::vector<JwtIssuer>> ReadJwtIssuers(const std::string& path,
                                                      const YAML::Node& list) {
  return IssuersReader(path).Read(list);
}

}  // namespace descant
