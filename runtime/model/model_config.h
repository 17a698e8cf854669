// A model is data: what the runners need to know of an architecture.
#ifndef DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_
#define DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <string>

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

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_
