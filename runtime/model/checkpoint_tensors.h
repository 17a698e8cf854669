// The tensors of a model with an adapter merged into it, as Transformers names
// and shapes them.
#ifndef DESCANT_RUNTIME_MODEL_CHECKPOINT_TENSORS_H_
#define DESCANT_RUNTIME_MODEL_CHECKPOINT_TENSORS_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/formats/dtype.h"
#include "runtime/model/checkpoint_writer.h"
#include "runtime/model/hf_families.h"
#include "runtime/model/merged_weight_source.h"
#include "runtime/model/model_config.h"

namespace descant {

// All tensors of the files of a Hugging Face directory that was loaded, under
// their own names. Those that `merged` changes are computed in fp32 and rounded
// once; of the others each has its bytes. `dtype`: of all that hold weights;
// none: each one's own. Every tensor keeps the files open, and `merged`.
absl::StatusOr<std::vector<CheckpointTensor>> HuggingFaceCheckpointTensors(
    const std::vector<std::string>& paths, const HuggingFaceFamily& family,
    const ModelConfig& config, std::shared_ptr<const MergedWeightSource> merged,
    std::optional<Dtype> dtype);

// All tensors that the family has, computed from `merged` in fp32: of a model
// that was not in these names.
std::vector<CheckpointTensor> NewCheckpointTensors(
    const HuggingFaceFamily& family, const ModelConfig& config,
    std::shared_ptr<const MergedWeightSource> merged, Dtype dtype);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CHECKPOINT_TENSORS_H_
