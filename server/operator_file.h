// Files that the operator named: on the command line, or in a file of theirs.
#ifndef DESCANT_SERVER_OPERATOR_FILE_H_
#define DESCANT_SERVER_OPERATOR_FILE_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/base/fs.h"

namespace descant {

// Links are followed, which Fs never does for the store: mounted ConfigMaps and
// volumes are made of them. INVALID_ARGUMENT, one line that begins with `path`.

absl::StatusOr<std::unique_ptr<ReadableFile>> OpenOperatorFile(
    const std::string& path);

// All of it, at most `max_bytes`.
absl::StatusOr<std::string> ReadOperatorFile(const std::string& path,
                                             uint64_t max_bytes);

// The same of a file with secrets: one that has any of the permission bits
// `forbidden` is an error. Mode and content are those of one open file.
absl::StatusOr<std::string> ReadSecretFile(const std::string& path,
                                           uint64_t max_bytes,
                                           mode_t forbidden);

}  // namespace descant

#endif  // DESCANT_SERVER_OPERATOR_FILE_H_
