// --export-merged: the base model with an adapter merged into it, as files.
#ifndef DESCANT_SERVER_EXPORT_MERGED_H_
#define DESCANT_SERVER_EXPORT_MERGED_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/model/checkpoint_writer.h"
#include "server/config.h"

namespace descant {

// Loads --model, reads the adapter from --adapter-dir (a server may be using
// it) and writes the checkpoint to --out. No device, no listener. `may_go_on`
// is asked before each tensor. Errors are one line for the operator; ExitCode()
// says what they mean.
absl::StatusOr<CheckpointSummary> ExportMerged(
    const ServerConfig& config, std::function<absl::Status()> may_go_on);

}  // namespace descant

#endif  // DESCANT_SERVER_EXPORT_MERGED_H_
