// The tensors of a GGUF model, under the names of llama.cpp's converter.
#ifndef DESCANT_RUNTIME_MODEL_GGUF_TENSORS_H_
#define DESCANT_RUNTIME_MODEL_GGUF_TENSORS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "runtime/model/file_weights.h"
#include "runtime/model/gguf_parts.h"
#include "runtime/model/model_config.h"

namespace descant {

// Every tensor that `config` needs, of the shape it needs, and no other:
// INVALID_ARGUMENT names the tensor. Rows of llama's q and k, stored for
// interleaved rope, read back in Hugging Face's order. q, k and v may be fused
// into attn_qkv in any architecture; Phi-3's gate and up are fused in ffn_up.
absl::StatusOr<std::shared_ptr<const FileWeights>> ReadGgufWeights(
    std::shared_ptr<const GgufParts> parts, const ModelConfig& config);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GGUF_TENSORS_H_
