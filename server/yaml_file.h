// YAML text of an operator.
#ifndef DESCANT_SERVER_YAML_FILE_H_
#define DESCANT_SERVER_YAML_FILE_H_

#include <initializer_list>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "yaml-cpp/yaml.h"

namespace descant {

// The document in `content`: not empty, UTF-8. INVALID_ARGUMENT, one line that
// begins with `path`. yaml-cpp lets duplicate keys pass: readers look for them.
absl::StatusOr<YAML::Node> ParseYaml(const std::string& content,
                                     const std::string& path);

// INVALID_ARGUMENT, "path:line: message".
absl::Status YamlError(const std::string& path, const YAML::Node& at,
                       absl::string_view message);

using YamlFields = std::map<std::string, YAML::Node>;

// `node` as a map with all of `required`, any of `optional` and nothing else.
absl::StatusOr<YamlFields> ReadYamlFields(
    const std::string& path, const YAML::Node& node,
    std::initializer_list<const char*> required,
    std::initializer_list<const char*> optional = {});

}  // namespace descant

#endif  // DESCANT_SERVER_YAML_FILE_H_
