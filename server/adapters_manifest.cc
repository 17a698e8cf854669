#include "server/adapters_manifest.h"

#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/labels.h"
#include "adapters/name.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/operator_file.h"
#include "server/yaml_file.h"

namespace descant {
namespace {

constexpr uint64_t kMaxManifestBytes = 16 << 20;

class ManifestReader {
 public:
  ManifestReader(const std::string& path, absl::string_view model_name,
                 const TenantDirectory* tenants)
      : path_(path), model_name_(model_name), tenants_(tenants) {}

  absl::StatusOr<AdaptersManifest> Read(const YAML::Node& root) {
    DESCANT_ASSIGN_OR_RETURN(const YamlFields fields,
                             ReadYamlFields(path_, root, {"adapters"}));
    const YAML::Node& list = fields.at("adapters");
    AdaptersManifest manifest;
    if (list.IsNull()) return manifest;
    if (!list.IsSequence()) {
      return YamlError(path_, root, "adapters: must be a list");
    }
    for (const YAML::Node& node : list) {
      DESCANT_ASSIGN_OR_RETURN(ManifestEntry entry, ReadEntry(node));
      if (!seen_.emplace(entry.tenant, entry.name).second) {
        return YamlError(path_, node,
                         absl::StrCat("adapter ", entry.name, ": given twice"));
      }
      manifest.entries.push_back(std::move(entry));
    }
    return manifest;
  }

 private:
  absl::StatusOr<ManifestEntry> ReadEntry(const YAML::Node& node) {
    DESCANT_ASSIGN_OR_RETURN(
        const YamlFields fields,
        ReadYamlFields(path_, node, {"name"},
                       {"tenant", "directory", "file", "digest", "absent",
                        "pinned", "labels"}));
    ManifestEntry entry;
    DESCANT_ASSIGN_OR_RETURN(entry.name, Text(fields, "name"));
    DESCANT_ASSIGN_OR_RETURN(entry.tenant, Text(fields, "tenant"));
    DESCANT_ASSIGN_OR_RETURN(entry.directory, Text(fields, "directory"));
    DESCANT_ASSIGN_OR_RETURN(entry.file, Text(fields, "file"));
    DESCANT_ASSIGN_OR_RETURN(entry.digest, Text(fields, "digest"));
    DESCANT_ASSIGN_OR_RETURN(entry.absent, Flag(fields, "absent"));
    DESCANT_ASSIGN_OR_RETURN(entry.pinned, Flag(fields, "pinned"));
    DESCANT_RETURN_IF_ERROR(ReadLabels(fields, &entry));
    if (absl::Status status = Check(entry); !status.ok()) {
      return YamlError(path_, node,
                       absl::StrCat("adapter ", LogSafe(entry.name), ": ",
                                    status.message()));
    }
    entry.directory = Resolve(entry.directory);
    entry.file = Resolve(entry.file);
    return entry;
  }

  absl::Status Check(const ManifestEntry& entry) const {
    DESCANT_RETURN_IF_ERROR(ValidateAdapterName(entry.name, model_name_));
    if (tenants_ == nullptr && !entry.tenant.empty()) {
      return absl::InvalidArgumentError("tenant: there are no tenants");
    }
    if (tenants_ != nullptr && !tenants_->Has(entry.tenant)) {
      return absl::InvalidArgumentError(
          "tenant: must be one of the tenants file");
    }
    const int sources = (entry.directory.empty() ? 0 : 1) +
                        (entry.file.empty() ? 0 : 1) +
                        (entry.digest.empty() ? 0 : 1) + (entry.absent ? 1 : 0);
    if (sources != 1) {
      return absl::InvalidArgumentError(
          "must have one of directory, file, digest and absent");
    }
    if (!entry.digest.empty() && !IsDigest(entry.digest)) {
      return absl::InvalidArgumentError(
          "digest: must be sha256: and 64 lower-case hex digits");
    }
    if (entry.absent && entry.pinned) {
      return absl::InvalidArgumentError("pinned: not with absent");
    }
    if (!entry.labels.empty() && entry.directory.empty() &&
        entry.file.empty()) {
      return absl::InvalidArgumentError("labels: only with directory or file");
    }
    return ValidateLabels(entry.labels);
  }

  absl::Status ReadLabels(const YamlFields& fields,
                          ManifestEntry* entry) const {
    const auto it = fields.find("labels");
    if (it == fields.end()) return absl::OkStatus();
    if (!it->second.IsMap()) {
      return YamlError(path_, it->second, "labels: must be a map");
    }
    for (const auto& label : it->second) {
      if (!label.first.IsScalar() || !label.second.IsScalar()) {
        return YamlError(path_, label.first, "labels: must be plain texts");
      }
      if (!entry->labels.emplace(label.first.Scalar(), label.second.Scalar())
               .second) {
        return YamlError(path_, label.first, "labels: one is given twice");
      }
    }
    return absl::OkStatus();
  }

  // "" where it is not given.
  absl::StatusOr<std::string> Text(const YamlFields& fields,
                                   const char* name) const {
    const auto it = fields.find(name);
    if (it == fields.end()) return std::string();
    if (!it->second.IsScalar() || it->second.Scalar().empty()) {
      return YamlError(path_, it->second,
                       absl::StrCat(name, ": must be a text"));
    }
    return it->second.Scalar();
  }

  absl::StatusOr<bool> Flag(const YamlFields& fields, const char* name) const {
    const auto it = fields.find(name);
    if (it == fields.end()) return false;
    if (it->second.IsScalar() && it->second.Scalar() == "true") return true;
    if (it->second.IsScalar() && it->second.Scalar() == "false") return false;
    return YamlError(path_, it->second,
                     absl::StrCat(name, ": must be true or false"));
  }

  std::string Resolve(const std::string& path) const {
    if (path.empty()) return path;
    return (std::filesystem::path(path_).parent_path() / path).string();
  }

  const std::string path_;
  const std::string model_name_;
  const TenantDirectory* const tenants_;
  std::set<std::pair<std::string, std::string>> seen_;
};

}  // namespace

absl::StatusOr<AdaptersManifest> AdaptersManifest::Load(
    const std::string& path, absl::string_view model_name,
    const TenantDirectory* tenants) {
  DESCANT_ASSIGN_OR_RETURN(const std::string content,
                           ReadOperatorFile(path, kMaxManifestBytes));
  return Parse(content, path, model_name, tenants);
}

absl::StatusOr<AdaptersManifest> AdaptersManifest::Parse(
    const std::string& content, const std::string& path,
    absl::string_view model_name, const TenantDirectory* tenants) {
  DESCANT_ASSIGN_OR_RETURN(const YAML::Node root, ParseYaml(content, path));
  return ManifestReader(path, model_name, tenants).Read(root);
}

}  // namespace descant
