#include "runtime/model/hf_config_writer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

absl::Status NoKeyFor(absl::string_view what) {
  return absl::UnimplementedError(
      absl::StrCat("config.json of this architecture has no key for ", what));
}

// The shortest text that reads back as this fp32; a float in JSON.
std::string Real(float value) {
  char text[32];
  const float size = std::abs(value);
  const auto format = size == 0 || (size >= 1e-3f && size < 1e9f)
                          ? std::chars_format::fixed
                          : std::chars_format::scientific;
  const auto end = std::to_chars(text, text + sizeof text, value, format).ptr;
  std::string result(text, end);
  if (result.find_first_of(".e") == std::string::npos) result += ".0";
  return result;
}

// The members of one JSON object, in order.
class ObjectText {
 public:
  explicit ObjectText(absl::string_view indent) : indent_(indent) {}

  void Raw(absl::string_view key, absl::string_view value) {
    members_.push_back(absl::StrCat(indent_, JsonQuote(key), ": ", value));
  }
  void Text(absl::string_view key, absl::string_view value) {
    Raw(key, JsonQuote(value));
  }
  void Int(absl::string_view key, int64_t value) {
    Raw(key, absl::StrCat(value));
  }
  void Float(absl::string_view key, float value) { Raw(key, Real(value)); }
  void Bool(absl::string_view key, bool value) {
    Raw(key, value ? "true" : "false");
  }
  // -1, and a cap or window of 0, are none.
  void IdOrNull(absl::string_view key, int32_t id) {
    Raw(key, id < 0 ? "null" : absl::StrCat(id));
  }
  void CapOrNull(absl::string_view key, float cap) {
    Raw(key, cap == 0 ? "null" : Real(cap));
  }

  std::string Join(absl::string_view end) const {
    return absl::StrCat("{\n", absl::StrJoin(members_, ",\n"), "\n", end, "}");
  }

 private:
  const std::string indent_;
  std::vector<std::string> members_;
};

// A file has what llama3's scaling made of its parameters, not these. The
// published ones are tried: theirs must give the same bits or nearly so.
bool FindLlama3(const RopeConfig& rope, int32_t head_dim, RopeConfig* found) {
  const std::vector<float>& divisors = rope.frequency_divisors;
  RopeConfig plain = rope;
  plain.frequency_divisors.clear();
  const std::vector<float> base = RopeInverseFrequencies(plain, head_dim);
  RopeConfig candidate = plain;
  candidate.scaling = RopeScaling::kLlama3;
  candidate.factor = *std::max_element(divisors.begin(), divisors.end());
  candidate.low_freq_factor = 1.0f;
  candidate.high_freq_factor = 4.0f;
  for (int32_t original = 16; original <= 1 << 20; original *= 2) {
    candidate.original_max_position = original;
    const std::vector<float> scaled =
        RopeInverseFrequencies(candidate, head_dim);
    bool same = scaled.size() == divisors.size();
    for (size_t i = 0; same && i < scaled.size(); ++i) {
      same = std::abs(scaled[i] * divisors[i] - base[i]) <= 1e-5f * base[i];
    }
    if (same) {
      *found = candidate;
      return true;
    }
  }
  return false;
}

absl::Status WriteRope(const ModelConfig& config, ObjectText* root) {
  RopeConfig rope = config.rope;
  root->Float("rope_theta", rope.theta);
  // (Its factors for long contexts are not kept when a model is loaded.)
  if (rope.scaling == RopeScaling::kLongRope) {
    return NoKeyFor("rope scaling \"longrope\" of a GGUF file");
  }
  if (!rope.frequency_divisors.empty() &&
      (rope.scaling != RopeScaling::kNone ||
       !FindLlama3(config.rope, config.head_dim, &rope))) {
    return NoKeyFor("the file's rope frequencies");
  }
  if (rope.scaling == RopeScaling::kNone) return absl::OkStatus();
  ObjectText scaling("    ");
  switch (rope.scaling) {
    case RopeScaling::kLinear:
      scaling.Text("rope_type", "linear");
      break;
    case RopeScaling::kLlama3:
      scaling.Text("rope_type", "llama3");
      scaling.Float("low_freq_factor", rope.low_freq_factor);
      scaling.Float("high_freq_factor", rope.high_freq_factor);
      break;
    case RopeScaling::kYarn:
      scaling.Text("rope_type", "yarn");
      scaling.Float("attention_factor", rope.attention_factor);
      scaling.Float("beta_fast", rope.beta_fast);
      scaling.Float("beta_slow", rope.beta_slow);
      scaling.Bool("truncate", rope.truncate);
      break;
    case RopeScaling::kNone:
    case RopeScaling::kLongRope:
      break;  // returned above
  }
  scaling.Float("factor", rope.factor);
  if (rope.scaling != RopeScaling::kLinear) {
    scaling.Int("original_max_position_embeddings", rope.original_max_position);
  }
  root->Raw("rope_scaling", scaling.Join("  "));
  return absl::OkStatus();
}

void WriteSizes(const ModelConfig& config, ObjectText* root) {
  root->Int("num_hidden_layers", config.num_layers);
  root->Int("hidden_size", config.hidden_size);
  root->Int("intermediate_size", config.intermediate_size);
  root->Int("num_attention_heads", config.num_heads);
  root->Int("num_key_value_heads", config.num_kv_heads);
  root->Int("head_dim", config.head_dim);
  root->Int("max_position_embeddings", config.max_position);
  root->Float("rms_norm_eps", config.norm_eps);
}

// Biases of q, k and v, and of o, have one key.
absl::Status WriteAttentionBias(const ModelConfig& config, ObjectText* root) {
  if (config.qkv_bias != config.out_bias) {
    return NoKeyFor("biases of q, k and v without one of o");
  }
  root->Bool("attention_bias", config.qkv_bias);
  return absl::OkStatus();
}

absl::Status RefuseMlpBias(const ModelConfig& config) {
  return config.mlp_bias ? NoKeyFor("biases of the MLP") : absl::OkStatus();
}

absl::Status WriteLlama(const ModelConfig& config, ObjectText* root) {
  WriteSizes(config, root);
  root->Text("hidden_act", "silu");
  root->Bool("mlp_bias", config.mlp_bias);
  DESCANT_RETURN_IF_ERROR(WriteAttentionBias(config, root));
  return WriteRope(config, root);
}

absl::Status WriteQwen(const ModelConfig& config, ObjectText* root) {
  WriteSizes(config, root);
  root->Text("hidden_act", "silu");
  root->Bool("use_sliding_window", false);
  DESCANT_RETURN_IF_ERROR(RefuseMlpBias(config));
  if (config.qk_norm) {
    DESCANT_RETURN_IF_ERROR(WriteAttentionBias(config, root));
  } else if (!config.qkv_bias || config.out_bias) {
    return NoKeyFor("other biases than those of q, k and v");
  }
  return WriteRope(config, root);
}

absl::Status WriteGemma(const ModelConfig& config, ObjectText* root) {
  WriteSizes(config, root);
  root->Text("hidden_activation", "gelu_pytorch_tanh");
  DESCANT_RETURN_IF_ERROR(RefuseMlpBias(config));
  DESCANT_RETURN_IF_ERROR(WriteAttentionBias(config, root));
  const double scale = AttentionScale(config);
  root->Int("query_pre_attn_scalar", std::llround(1 / (scale * scale)));
  root->CapOrNull("final_logit_softcapping", config.final_logit_cap);
  std::vector<std::string> types;
  std::set<int32_t> windows;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    const int32_t window = WindowOf(config, layer);
    if (window > 0) windows.insert(window);
    types.push_back(window > 0 ? "\"sliding_attention\""
                               : "\"full_attention\"");
  }
  root->Raw("layer_types", absl::StrCat("[", absl::StrJoin(types, ", "), "]"));
  if (!windows.empty()) root->Int("sliding_window", *windows.begin());
  if (config.qk_norm) {
    const RopeConfig local = config.window_rope.value_or(config.rope);
    root->Float("rope_local_base_freq", local.theta);
  } else {
    root->CapOrNull("attn_logit_softcapping", config.attention_logit_cap);
    if (config.window_rope.has_value()) {
      return NoKeyFor("another rope of the layers with a window");
    }
  }
  return WriteRope(config, root);
}

absl::Status WritePhi3(const ModelConfig& config, ObjectText* root) {
  // Phi-3's "yarn" means longrope.
  if (config.rope.scaling == RopeScaling::kYarn) {
    return NoKeyFor("rope scaling \"yarn\"");
  }
  WriteSizes(config, root);
  root->Text("hidden_act", "silu");
  root->Int("original_max_position_embeddings", config.max_position);
  const int32_t window = WindowOf(config, 0);
  root->Raw("sliding_window", window == 0 ? "null" : absl::StrCat(window));
  const int32_t rotary = RotaryDim(config.rope, config.head_dim);
  root->Raw("partial_rotary_factor", Real(static_cast<float>(rotary) /
                                          static_cast<float>(config.head_dim)));
  return WriteRope(config, root);
}

absl::Status WriteGpt2(const ModelConfig& config, ObjectText* root) {
  root->Int("n_layer", config.num_layers);
  root->Int("n_embd", config.hidden_size);
  root->Int("n_inner", config.intermediate_size);
  root->Int("n_head", config.num_heads);
  root->Int("n_positions", config.max_position);
  root->Float("layer_norm_epsilon", config.norm_eps);
  root->Text("activation_function", "gelu_new");
  return absl::OkStatus();
}

struct Writer {
  absl::string_view architecture;  // GGUF's
  absl::string_view family;
  absl::string_view model_type;  // config.json's
  absl::Status (*write)(const ModelConfig& config, ObjectText* root);
};
constexpr Writer kWriters[] = {
    {"llama", "LlamaForCausalLM", "llama", WriteLlama},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", WriteQwen},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", WriteQwen},
    {"gemma2", "Gemma2ForCausalLM", "gemma2", WriteGemma},
    {"gemma3", "Gemma3ForCausalLM", "gemma3_text", WriteGemma},
    {"phi3", "Phi3ForCausalLM", "phi3", WritePhi3},
    {"gpt2", "GPT2LMHeadModel", "gpt2", WriteGpt2},
};

const Writer* FindWriter(absl::string_view architecture) {
  for (const Writer& writer : kWriters) {
    if (writer.architecture == architecture) return &writer;
  }
  return nullptr;
}

void WriteTokens(const ConfigTokens& tokens, ObjectText* root) {
  root->IdOrNull("bos_token_id", tokens.bos);
  // (Where it is missing, some families take one of their own.)
  root->IdOrNull("pad_token_id", tokens.pad);
  const std::string ids = absl::StrJoin(tokens.eos, ", ");
  root->Raw("eos_token_id", tokens.eos.empty()       ? "null"
                            : tokens.eos.size() == 1 ? ids
                                                     : "[" + ids + "]");
}

}  // namespace

absl::StatusOr<const HuggingFaceFamily*> FamilyOfGguf(
    const ModelConfig& config) {
  const Writer* writer = FindWriter(config.architecture);
  if (writer == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("architecture ", JsonQuote(config.architecture),
                     " has no Hugging Face names here"));
  }
  return FindHuggingFaceFamily(writer->family);
}

absl::StatusOr<std::string> WriteHuggingFaceConfig(
    const HuggingFaceFamily& family, const ModelConfig& config,
    const ConfigTokens& tokens, absl::string_view dtype) {
  DESCANT_RETURN_IF_ERROR(FamilyOfGguf(config).status());
  const Writer& writer = *FindWriter(config.architecture);
  ObjectText root("  ");
  root.Raw("architectures",
           absl::StrCat("[", JsonQuote(family.architecture), "]"));
  root.Text("model_type", writer.model_type);
  root.Int("vocab_size", config.vocab_size);
  root.Bool("tie_word_embeddings", config.tied_embeddings);
  WriteTokens(tokens, &root);
  root.Text("torch_dtype", dtype);
  DESCANT_RETURN_IF_ERROR(writer.write(config, &root));
  return root.Join("") + "\n";
}

std::string WriteGenerationConfig(const ConfigTokens& tokens) {
  ObjectText root("  ");
  WriteTokens(tokens, &root);
  return root.Join("") + "\n";
}

}  // namespace descant
