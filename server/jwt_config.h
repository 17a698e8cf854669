// The section `jwt` of a tenants file: server/TENANTS.md.
#ifndef DESCANT_SERVER_JWT_CONFIG_H_
#define DESCANT_SERVER_JWT_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jwt.h"
#include "server/yaml_file.h"

namespace descant {

// Reads the keys' PEM files too; their paths count from the folder of `path`,
// the tenants file. INVALID_ARGUMENT, one line that begins with `path`.
absl::StatusOr<std::vector<JwtIssuer>> ReadJwtIssuers(const std::string& path,
                                                      const YAML::Node& list);

}  // namespace descant

#endif  // DESCANT_SERVER_JWT_CONFIG_H_
