// A model is data: what the runners need to know of an architecture. The
// defaults are Llama's.
#ifndef DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_
#define DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace descant {

// x / sqrt(mean(x^2) + eps) * w, or (x - mean) / sqrt(var + eps) * w + b.
enum class NormKind : uint8_t { kRms, kLayer };
enum class PositionKind : uint8_t { kRope, kLearned };
// kGeluTanh: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
enum class Activation : uint8_t { kSilu, kGeluTanh };
// How PEFT names the linear modules, and which of them are fused.
enum class ModuleNaming : uint8_t { kLlama, kPhi3, kGpt2 };

// kLongRope: the divisors are its short factors, and max_position is its
// original one (within it Hugging Face uses no others). kYarn: of
// https://arxiv.org/abs/2309.00071, without regard to a sequence's length.
enum class RopeScaling : uint8_t { kNone, kLinear, kLlama3, kLongRope, kYarn };

// Rotary position embedding; pairs are (i, i + rotary_dim / 2) of a head's
// first rotary_dim elements, as in Hugging Face checkpoints. The rest of the
// head stays as it is.
struct RopeConfig {
  float theta = 10000.0f;
  int32_t rotary_dim = 0;  // even; 0: the whole head
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.0f;
  float attention_factor = 1.0f;  // multiplies cos and sin (kLongRope, kYarn)
  // kLlama3 only.
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  int32_t original_max_position = 8192;  // kLlama3, kYarn
  // kYarn only.
  float beta_fast = 32.0f;
  float beta_slow = 1.0f;
  bool truncate = true;  // its borders are whole dimensions
  // [rotary_dim / 2] or empty: divides the inverse frequencies, on top of
  // `scaling`. (How GGUF stores Llama 3's scaling.)
  std::vector<float> frequency_divisors;
};

struct ModelConfig {
  std::string architecture;  // GGUF's name: "llama", "qwen3", "gpt2", ...
  int32_t num_layers = 0;
  int32_t hidden_size = 0;
  int32_t intermediate_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab_size = 0;
  int32_t max_position = 0;
  bool tied_embeddings = false;

  float norm_eps = 1e-5f;
  NormKind norm = NormKind::kRms;
  // Norms also after attention and after the MLP, before each is added to the
  // residual stream (Gemma 2, 3).
  bool post_norms = false;
  // RMS norm of each head of q and k, before the rotation (Qwen 3, Gemma 3).
  bool qk_norm = false;

  PositionKind position = PositionKind::kRope;
  RopeConfig rope;
  // Of the layers that have a window (Gemma 3); none: `rope`.
  std::optional<RopeConfig> window_rope;
  // [num_layers] or empty. A query at position i sees j <= i with
  // i - j < windows[layer]; 0: all of them.
  std::vector<int32_t> windows;

  Activation activation = Activation::kSilu;
  bool gated_mlp = true;  // down(act(gate x) * up x); else down(act(up x))
  bool qkv_bias = false;
  bool out_bias = false;
  bool mlp_bias = false;

  float embedding_scale = 1.0f;  // Gemma: sqrt(hidden_size)
  float attention_scale = 0.0f;  // 0: 1 / sqrt(head_dim); see AttentionScale
  // c * tanh(s / c) on scores, after the scale and before the mask, and on
  // logits; 0: none.
  float attention_logit_cap = 0.0f;
  float final_logit_cap = 0.0f;

  ModuleNaming naming = ModuleNaming::kLlama;
};

// The window of `layer`, 0 for none.
int32_t WindowOf(const ModelConfig& config, int32_t layer);
const RopeConfig& RopeOf(const ModelConfig& config, int32_t layer);
// What scores q k^T are multiplied with.
float AttentionScale(const ModelConfig& config);

// Leading elements of a head that turn.
int32_t RotaryDim(const RopeConfig& rope, int32_t head_dim);
// [rotary_dim / 2]: position p turns pair i by p * result[i], as Hugging Face
// computes it (fp32); cos and sin are then multiplied with attention_factor.
std::vector<float> RopeInverseFrequencies(const RopeConfig& rope,
                                          int32_t head_dim);

// What a position turns each pair by, [position][pair].
struct RopeRotations {
  std::vector<float> cos;
  std::vector<float> sin;
  int32_t pairs = 0;
};
// Of positions [0, positions), in fp32 as Hugging Face does it: the angle is
// rounded before its cosine.
RopeRotations MakeRopeRotations(const RopeConfig& rope, int32_t head_dim,
                                int32_t positions);

// OK, or INVALID_ARGUMENT with one line that names the rule: positive sizes
// within bounds, heads a multiple of kv_heads, an even head_dim, sane rope.
absl::Status ValidateModelConfig(const ModelConfig& config);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MODEL_CONFIG_H_
