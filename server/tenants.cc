#include "server/tenants.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "adapters/name.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/core/fairness.h"
#include "server/config_values.h"
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

absl::Status FileError(const std::string& path, absl::string_view message) {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", message));
}

// Mode and content are those of one open file.
absl::StatusOr<std::string> ReadPrivateFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError(path, "cannot be read as a file");
  const std::unique_ptr<const int, void (*)(const int*)> closer(
      &fd, [](const int* open_fd) { close(*open_fd); });
  struct stat info {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return FileError(path, "cannot be read as a file");
  }
  if ((info.st_mode & 077) != 0) {
    return FileError(path,
                     "group or others may use it; only its owner may: "
                     "chmod 600");
  }
  std::string content;
  std::array<char, 65536> buffer;
  for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) != 0;) {
    if (n < 0) return FileError(path, "cannot be read as a file");
    content.append(buffer.data(), static_cast<size_t>(n));
    if (content.size() > kMaxFileBytes) return FileError(path, "is too large");
  }
  return content;
}

}  // namespace

// Reads one document.
class TenantsReader {
 public:
  explicit TenantsReader(const std::string& path) : path_(path) {}

  absl::StatusOr<std::shared_ptr<const TenantDirectory>> Read(
      const YAML::Node& root) {
    DESCANT_ASSIGN_OR_RETURN(YamlFields fields,
                             ReadYamlFields(path_, root, {"tenants"}));
    const YAML::Node list = fields["tenants"];
    if (!list.IsSequence() || list.size() == 0) {
      return Error(root, "tenants: must be a list of at least one tenant");
    }
    for (const YAML::Node& tenant : list) {
      DESCANT_RETURN_IF_ERROR(ReadTenant(tenant));
    }
    return std::shared_ptr<const TenantDirectory>(
        new TenantDirectory(std::move(entries_)));
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
    DESCANT_ASSIGN_OR_RETURN(YamlFields fields,
                             ReadYamlFields(path_, node, {"id", "keys"},
                                            {"weight", "roles", "limits"}));
    auto tenant = std::make_shared<Tenant>();
    DESCANT_ASSIGN_OR_RETURN(tenant->id, IdOf(fields["id"]));
    const std::string where = absl::StrCat("tenant ", tenant->id, ": ");
    if (!tenants_.insert(tenant->id).second) {
      return Error(node, absl::StrCat(where, "given twice"));
    }
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
    const YAML::Node keys = fields["keys"];
    if (!keys.IsSequence() || keys.size() == 0 || keys.size() > kMaxKeys) {
      return Error(node,
                   absl::StrCat(where, "keys: must be a list of one or two"));
    }
    std::set<std::string> ids;
    for (const YAML::Node& key : keys) {
      DESCANT_RETURN_IF_ERROR(ReadKey(key, tenant, &ids));
    }
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
    entry.tenant = owner;
    entries_.push_back(std::move(entry));
    return absl::OkStatus();
  }

  const std::string path_;
  std::set<std::string> tenants_;
  std::set<std::string> hashes_;
  std::vector<TenantDirectory::Entry> entries_;
};

absl::StatusOr<std::shared_ptr<const TenantDirectory>> TenantDirectory::Load(
    const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(const std::string content, ReadPrivateFile(path));
  return Parse(content, path);
}

absl::StatusOr<std::shared_ptr<const TenantDirectory>> TenantDirectory::Parse(
    const std::string& content, const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(const YAML::Node root, ParseYaml(content, path));
  return TenantsReader(path).Read(root);
}

bool TenantDirectory::Has(absl::string_view tenant) const {
  return std::any_of(
      entries_.begin(), entries_.end(),
      [tenant](const Entry& entry) { return entry.tenant->id == tenant; });
}

std::shared_ptr<const Tenant> TenantDirectory::Authenticate(
    absl::string_view bearer_token) const {
  const Sha256Digest hash = Sha256Of(bearer_token);
  const Entry* found = nullptr;
  // Never ends early, and compares all bytes of each.
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(hash.data(), entry.key_hash.data(), hash.size()) == 0) {
      found = &entry;
    }
  }
  return found == nullptr ? nullptr : found->tenant;
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
