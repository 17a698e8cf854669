// The base model with one adapter merged into it, as a checkpoint that
// Transformers loads. No device is needed, and no memory beyond the largest
// tensor's.
#ifndef DESCANT_RUNTIME_MODEL_EXPORT_CHECKPOINT_H_
#define DESCANT_RUNTIME_MODEL_EXPORT_CHECKPOINT_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "adapters/adapter.h"
#include "runtime/base/fs.h"
#include "runtime/model/checkpoint_writer.h"
#include "runtime/model/export_dtype.h"
#include "runtime/model/model.h"

namespace descant {

struct ExportRequest {
  std::string model_path;  // that `model` was loaded from
  std::shared_ptr<const Model> model;
  std::shared_ptr<const Adapter> adapter;  // with its tensors; fits the model
  ExportDtype dtype = ExportDtype::kAuto;
  std::string directory;  // to be made
};

// W0 + scale B A in fp32, rounded once, for each module of the adapter. Of a
// Hugging Face directory all other tensors are written as they are (with
// kAuto, byte for byte), config.json and the tokenizer's files are copied. A
// GGUF file's tensors are dequantised, and config.json, the tokenizer and
// generation_config.json made from its keys.
//
// Errors of WriteCheckpoint. UNIMPLEMENTED: a GGUF file has what Hugging Face's
// format has no key for. OUT_OF_RANGE: a value that the dtype has not.
// UNAVAILABLE: the model's files are not those any more that were loaded.
absl::StatusOr<CheckpointSummary> ExportMergedCheckpoint(
    Fs* fs, const ExportRequest& request, const CheckpointOptions& options);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_EXPORT_CHECKPOINT_H_
