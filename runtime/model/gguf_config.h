// GGUF metadata to a ModelConfig, as llama.cpp's converter
// (convert_hf_to_gguf.py) writes it and its loader reads it.
//
// Served: llama (also Mistral, which GGUF calls llama), qwen2, qwen3, gemma2,
// gemma3, phi3, gpt2. What the metadata does not say is implied:
// - biases: whether the tensors are there (llama, qwen2, qwen3).
// - Gemma's embedding scale is sqrt(hidden); its query scale
//   1 / sqrt(head_dim), but 1 / sqrt(hidden / heads) for the 27B models, told
//   by their 46 (Gemma 2) and 62 (Gemma 3) layers. Norms already include 1 +.
// - windows: every second layer of Gemma 2, from the first on, all but every
//   sixth of Gemma 3, every one of Phi-3. Gemma 3's layers with a window have
//   their own rope theta, 10000 where no key says otherwise.
// - Gemma 2's logit caps, where keys are missing: 50 and 30.
// Mistral 7B v0.1's window is not in the file: the converter leaves it out.
#ifndef DESCANT_RUNTIME_MODEL_GGUF_CONFIG_H_
#define DESCANT_RUNTIME_MODEL_GGUF_CONFIG_H_

#include "absl/status/statusor.h"
#include "runtime/model/gguf_parts.h"
#include "runtime/model/model_config.h"

namespace descant {

// Tensors whose values are part of the configuration: divisors of the rope
// frequencies for all contexts (Llama 3), within the original context and
// beyond it (long rope). F32 [rotary_dim / 2].
inline constexpr absl::string_view kRopeDivisors = "rope_freqs.weight";
inline constexpr absl::string_view kRopeShort = "rope_factors_short.weight";
inline constexpr absl::string_view kRopeLong = "rope_factors_long.weight";

// INVALID_ARGUMENT, the path first: other architectures, experts, non-causal
// attention, rope scaling other than none, linear, yarn and longrope, and keys
// that change the computation in a way that no served architecture has.
absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufParts& parts);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GGUF_CONFIG_H_
