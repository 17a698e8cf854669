#include "server/yaml_file.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/tokenizer/unicode.h"

namespace descant {

absl::StatusOr<YAML::Node> ParseYaml(const std::string& content,
                                     const std::string& path) {
  if (!IsValidUtf8(content) || content.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is not UTF-8 text"));
  }
  // yaml-cpp reports by exception; it ends here.
  try {
    YAML::Node root = YAML::Load(content);
    if (!root.IsDefined() || root.IsNull()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": is empty"));
    }
    return root;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ":", error.mark.line + 1, ": is not valid YAML: ", error.msg));
  }
}

absl::Status YamlError(const std::string& path, const YAML::Node& at,
                       absl::string_view message) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ":", at.Mark().line + 1, ": ", message));
}

absl::StatusOr<YamlFields> ReadYamlFields(
    const std::string& path, const YAML::Node& node,
    std::initializer_list<const char*> required,
    std::initializer_list<const char*> optional) {
  if (!node.IsMap()) return YamlError(path, node, "must be a map");
  const auto known = [](std::initializer_list<const char*> names,
                        const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  YamlFields fields;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar()) {
      return YamlError(path, entry.first, "keys must be plain names");
    }
    const std::string name = entry.first.Scalar();
    if (!known(required, name) && !known(optional, name)) {
      return YamlError(path, entry.first,
                       absl::StrCat(LogSafe(name), ": unknown key"));
    }
    if (!fields.emplace(name, entry.second).second) {
      return YamlError(path, entry.first,
                       absl::StrCat(name, ": given more than once"));
    }
  }
  for (const char* name : required) {
    if (fields.count(name) == 0) {
      return YamlError(path, node, absl::StrCat(name, ": is missing"));
    }
  }
  return fields;
}

}  // namespace descant
