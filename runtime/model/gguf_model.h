// One GGUF file with general.architecture "llama".
#ifndef DESCANT_RUNTIME_MODEL_GGUF_MODEL_H_
#define DESCANT_RUNTIME_MODEL_GGUF_MODEL_H_

#include <string>

#include "absl/status/statusor.h"
#include "adapters/formats/gguf.h"
#include "runtime/model/model.h"

namespace descant {

// As LoadModel. Tensors F32, F16, BF16, Q8_0, Q4_0, Q4_1; rows of q and k are
// stored for interleaved rope and are read back in Hugging Face's order.
absl::StatusOr<LoadedModel> LoadGgufModel(const std::string& path);

// The llama.* keys. `path` starts every message. Experts, non-causal
// attention, and rope scaling other than none and linear are refused; Llama
// 3's scaling comes as the tensor rope_freqs.weight, which the caller adds.
absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufIndex& index,
                                           const std::string& path);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GGUF_MODEL_H_
