#include "server/yaml_file.h"

#include "absl/strings/str_cat.h"
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

}  // namespace descant
