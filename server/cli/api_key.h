// The key that names the caller's tenant.
#ifndef DESCANT_SERVER_CLI_API_KEY_H_
#define DESCANT_SERVER_CLI_API_KEY_H_

#include <string>

#include "absl/status/statusor.h"

namespace descant::cli {

// The content of the file at `path` without the white space around it; with an
// empty path $DESCANT_API_KEY, "" where it is not set. NOT_FOUND: no such
// file; INVALID_ARGUMENT: what it holds is no key. Messages never repeat it.
absl::StatusOr<std::string> LoadApiKey(const std::string& path);

}  // namespace descant::cli

#endif  // DESCANT_SERVER_CLI_API_KEY_H_
