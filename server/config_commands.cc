// Flags of the command line alone.
#include <string>

#include "absl/strings/string_view.h"
#include "adapters/name.h"
#include "runtime/base/status_macros.h"
#include "server/config_options.h"
#include "server/config_values.h"

namespace descant {
namespace {

absl::Status SetExportMerged(absl::string_view text, ServerConfig* config) {
  DESCANT_RETURN_IF_ERROR(ParseQualifiedAdapterId(text).status());
  config->export_merged = std::string(text);
  return absl::OkStatus();
}

absl::Status SetOut(absl::string_view text, ServerConfig* config) {
  if (text.empty()) return absl::InvalidArgumentError("must not be empty");
  config->out = std::string(text);
  return absl::OkStatus();
}

absl::Status SetExportDtype(absl::string_view text, ServerConfig* config) {
  if (text == "auto") {
    config->export_dtype = ExportDtype::kAuto;
  } else if (text == "fp32") {
    config->export_dtype = ExportDtype::kFp32;
  } else if (text == "bf16") {
    config->export_dtype = ExportDtype::kBf16;
  } else if (text == "fp16") {
    config->export_dtype = ExportDtype::kFp16;
  } else {
    return absl::InvalidArgumentError("must be auto, fp32, bf16 or fp16");
  }
  return absl::OkStatus();
}

absl::Status SetMaxShardSize(absl::string_view text, ServerConfig* config) {
  return ParseBytes(text, 1024, &config->max_shard_size);
}

}  // namespace

const std::vector<ConfigOption>& CommandOptions() {
  static const auto* const options = new std::vector<ConfigOption>{
      {"export-merged", "NAME",
       "Write --model with the adapter NAME of --adapter-dir merged into it to "
       "the directory --out, as a Hugging Face checkpoint, and exit. NAME is "
       "an adapter id; with tenants, after TENANT/. A server may be using the "
       "store.",
       SetExportMerged},
      {"out", "DIR",
       "Of --export-merged: made whole or not at all; must not be there, or be "
       "empty.",
       SetOut},
      {"export-dtype", "TYPE",
       "Of --export-merged: auto, fp32, bf16 or fp16. auto: each tensor's own; "
       "of a GGUF model fp32. Default auto.",
       SetExportDtype},
      {"max-shard-size", "SIZE",
       "Of --export-merged: most bytes of tensors in a file, where no tensor "
       "alone has more. Default 5000000000.",
       SetMaxShardSize},
  };
  return *options;
}

}  // namespace descant
