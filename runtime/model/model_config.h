// A model is data: what the runners need to know of an architecture.
#ifndef DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_
#define DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace descant {

enum class RopeScaling { kNone, kLinear, kLlama3 };

// Rotary position embedding; pairs are (i, i + head_dim / 2), as in Hugging
// Face checkpoints.
struct RopeConfig {
  float theta = 10000.0f;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;
  // kLlama3 only.
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  int32_t original_max_position = 8192;
  // [head_dim / 2] or empty: divides the inverse frequencies, on top of
  // `scaling`. (How GGUF stores Llama 3's scaling.)
  std::vector<float> frequency_divisors;
};

struct ModelConfig {
  std::string architecture;  // "llama"
  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab_size = 0;
  int32_t max_position = 0;
  float rms_norm_eps = 1e-5f;
  bool tied_embeddings = false;
  RopeConfig rope;
};

// [head_dim / 2]: position p turns pair i by p * result[i], as Hugging Face
// computes it (fp32).
std::vector<float> RopeInverseFrequencies(const ModelConfig& config);

// OK, or INVALID_ARGUMENT with one line that names the rule: positive sizes
// within bounds, heads a multiple of kv_heads, an even head_dim, sane rope.
absl::Status ValidateModelConfig(const ModelConfig& config);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_
