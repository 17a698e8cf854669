// YAML text of an operator.
#ifndef DESCANT_SERVER_YAML_FILE_H_
#define DESCANT_SERVER_YAML_FILE_H_

#include <string>

#include "absl/status/statusor.h"
#include "yaml-cpp/yaml.h"

namespace descant {

// The document in `content`: not empty, UTF-8. INVALID_ARGUMENT, one line that
// begins with `path`. yaml-cpp lets duplicate keys pass: readers look for them.
absl::StatusOr<YAML::Node> ParseYaml(const std::string& content,
                                     const std::string& path);

}  // namespace descant

#endif  // DESCANT_SERVER_YAML_FILE_H_
