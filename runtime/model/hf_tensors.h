// The tensors of a Hugging Face checkpoint as weights.
#ifndef DESCANT_RUNTIME_MODEL_HF_TENSORS_H_
#define DESCANT_RUNTIME_MODEL_HF_TENSORS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/model/file_weights.h"
#include "runtime/model/hf_config.h"

namespace descant {

// `paths`: the safetensors files, which the result keeps open. Every tensor
// of the architecture must be there in its shape, and no other: ignored are
// rotary inverse frequencies, GPT-2's causal masks and, with tied embeddings,
// the head. INVALID_ARGUMENT, one line with the file and the tensor; for a
// missing one with `place`.
absl::StatusOr<std::shared_ptr<const FileWeights>> OpenHuggingFaceWeights(
    const std::vector<std::string>& paths, const std::string& place,
    const HuggingFaceConfig& config);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_HF_TENSORS_H_
