#include "server/export_merged.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/name.h"
#include "adapters/stored_adapter.h"
#include "runtime/base/fs.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/export_checkpoint.h"
#include "runtime/model/model.h"

namespace descant {
namespace {

absl::Status About(absl::string_view flag, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(flag, ": ", status.message()));
}

}  // namespace

absl::StatusOr<CheckpointSummary> ExportMerged(
    const ServerConfig& config, std::function<absl::Status()> may_go_on) {
  // What can be wrong is said before a large model is read.
  if (auto status = CheckCheckpointDirectory(config.out); !status.ok()) {
    return About("--out", status);
  }
  const auto id = ParseQualifiedAdapterId(config.export_merged);
  if (!id.ok()) return About("--export-merged", id.status());
  DESCANT_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(config.model));
  PosixFs fs;
  // It was let in under a server's limits; these are none of a device.
  AdapterLimits limits;
  limits.max_file_bytes = std::numeric_limits<int64_t>::max();
  auto adapter = ReadStoredAdapter(&fs, config.adapter_dir, *id,
                                   loaded.model->base_shape, limits);
  if (!adapter.ok()) {
    return About("--export-merged",
                 About(config.adapter_dir, adapter.status()));
  }
  ExportRequest request;
  request.model_path = config.model;
  request.model = loaded.model;
  request.adapter = *std::move(adapter);
  request.dtype = config.export_dtype;
  request.directory = config.out;
  CheckpointOptions options;
  options.max_shard_bytes = config.max_shard_size;
  options.may_go_on = std::move(may_go_on);
  return ExportMergedCheckpoint(&fs, request, options);
}

}  // namespace descant
