#include "server/tenants.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "adapters/name.h"
#include "runtime/base/status_macros.h"
#include "server/yaml_file.h"

namespace descant {
namespace {

constexpr size_t kMaxFileBytes = 16 << 20;
constexpr size_t kMaxKeys = 2;

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
                             ReadYamlFields(path_, node, {"id", "keys"}));
    DESCANT_ASSIGN_OR_RETURN(const std::string tenant, IdOf(fields["id"]));
    if (!tenants_.insert(tenant).second) {
      return Error(node, absl::StrCat("tenant ", tenant, ": given twice"));
    }
    const YAML::Node keys = fields["keys"];
    if (!keys.IsSequence() || keys.size() == 0 || keys.size() > kMaxKeys) {
      return Error(node, absl::StrCat("tenant ", tenant,
                                      ": keys: must be a list of one or two"));
    }
    std::set<std::string> ids;
    for (const YAML::Node& key : keys) {
      DESCANT_RETURN_IF_ERROR(ReadKey(key, tenant, &ids));
    }
    return absl::OkStatus();
  }

  absl::Status ReadKey(const YAML::Node& node, const std::string& tenant,
                       std::set<std::string>* ids) {
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
    entry.tenant = tenant;
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
      [tenant](const Entry& entry) { return entry.tenant == tenant; });
}

std::optional<std::string> TenantDirectory::Authenticate(
    absl::string_view bearer_token) const {
  const Sha256Digest hash = Sha256Of(bearer_token);
  const Entry* found = nullptr;
  // Never ends early, and compares all bytes of each.
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(hash.data(), entry.key_hash.data(), hash.size()) == 0) {
      found = &entry;
    }
  }
  if (found == nullptr) return std::nullopt;
  return found->tenant;
}

}  // namespace descant
