#include "runtime/model/hf_families.h"

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/model/hf_rope.h"

namespace descant {
namespace {

// What Transformers takes for missing keys.
struct DecoderDefaults {
  int32_t kv_heads = 0;  // 0: as many as heads
  int32_t head_dim = 0;  // 0: hidden size / heads
  int32_t max_position = 0;
  float norm_eps = 1e-6f;
  bool tied = false;
};

Activation ReadActivation(absl::string_view key, absl::string_view missing,
                          ObjectReader* root) {
  const std::string name = root->String(key, missing);
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") {
    return Activation::kGeluTanh;
  }
  root->Fail(absl::StrCat(key, " ", JsonQuote(name),
                          " is not supported, only \"silu\" and "
                          "\"gelu_pytorch_tanh\""));
  return Activation::kSilu;
}

void ReadDecoder(const DecoderDefaults& defaults, ObjectReader* root,
                 ModelConfig* model) {
  for (const absl::string_view key :
       {"num_hidden_layers", "hidden_size", "intermediate_size",
        "num_attention_heads", "vocab_size"}) {
    root->Require(key);
  }
  model->num_layers = root->Int("num_hidden_layers", 0);
  model->hidden_size = root->Int("hidden_size", 0);
  model->intermediate_size = root->Int("intermediate_size", 0);
  model->num_heads = root->Int("num_attention_heads", 0);
  const bool as_heads =
      defaults.kv_heads == 0 || root->IsNull("num_key_value_heads");
  model->num_kv_heads = root->Int(
      "num_key_value_heads", as_heads ? model->num_heads : defaults.kv_heads);
  const int32_t even_share =
      model->num_heads > 0 ? model->hidden_size / model->num_heads : 0;
  model->head_dim = root->Int(
      "head_dim", defaults.head_dim > 0 ? defaults.head_dim : even_share);
  model->vocab_size = root->Int("vocab_size", 0);
  model->max_position =
      root->Int("max_position_embeddings", defaults.max_position);
  model->norm_eps = root->Float("rms_norm_eps", defaults.norm_eps);
  model->tied_embeddings = root->Bool("tie_word_embeddings", defaults.tied);
}

void ReadAttentionBias(ObjectReader* root, ModelConfig* model) {
  model->qkv_bias = root->Bool("attention_bias", false);
  model->out_bias = model->qkv_bias;
}

// Too many layers are refused later, by name.
constexpr int32_t kMaxListedLayers = 1024;

// The same window in every layer; null is none.
void ReadWindow(int32_t missing, ObjectReader* root, ModelConfig* model) {
  root->Refuse("layer_types");
  if (root->IsNull("sliding_window")) return;
  const bool given = root->Has("sliding_window");
  const int32_t window = root->Int("sliding_window", missing);
  if (given && window == 0) root->Fail("sliding_window must be positive");
  if (window == 0 || model->num_layers > kMaxListedLayers) return;
  model->windows.assign(model->num_layers, window);
}

// `slides(layer)` decides where there is no layer_types; `window` 0 is none.
template <typename Slides>
void ReadLayerTypes(int32_t window, Slides slides, ObjectReader* root,
                    ModelConfig* model) {
  if (model->num_layers > kMaxListedLayers) return;
  const std::vector<std::string> types = root->Strings("layer_types");
  if (!types.empty() &&
      static_cast<int32_t>(types.size()) != model->num_layers) {
    root->Fail(absl::StrCat("layer_types has ", types.size(),
                            " entries, must be ", model->num_layers));
    return;
  }
  std::vector<int32_t> windows(model->num_layers, 0);
  bool any = false;
  for (int32_t layer = 0; layer < model->num_layers; ++layer) {
    bool sliding = false;
    if (types.empty()) {
      sliding = slides(layer);
    } else if (types[layer] == "sliding_attention") {
      sliding = true;
    } else if (types[layer] != "full_attention") {
      root->Fail(absl::StrCat("layer type ", JsonQuote(types[layer]),
                              " is not supported, only \"full_attention\" and "
                              "\"sliding_attention\""));
    }
    if (sliding) windows[layer] = window;
    any = any || sliding;
  }
  if (!any) return;
  if (window < 1) {
    root->Fail("layers with sliding attention need a positive sliding_window");
  }
  model->windows = std::move(windows);
}

void ReadLlama(ObjectReader* root, ModelConfig* model) {
  model->architecture = "llama";
  ReadDecoder({.max_position = 2048}, root, model);
  ReadAttentionBias(root, model);
  model->mlp_bias = root->Bool("mlp_bias", false);
  model->activation = ReadActivation("hidden_act", "silu", root);
  ReadRope({}, root, model);
}

// GGUF has no name of its own for Mistral; here it tells them apart.
void ReadMistral(ObjectReader* root, ModelConfig* model) {
  model->architecture = "mistral";
  ReadDecoder({.kv_heads = 8, .max_position = 131072}, root, model);
  model->activation = ReadActivation("hidden_act", "silu", root);
  ReadWindow(4096, root, model);
  ReadRope({}, root, model);
}

// The last layers slide, if any.
void ReadQwen(ObjectReader* root, ModelConfig* model) {
  model->activation = ReadActivation("hidden_act", "silu", root);
  const bool slides = root->Bool("use_sliding_window", false);
  const int32_t full = root->Int("max_window_layers", 28);
  const int32_t window = slides && !root->IsNull("sliding_window")
                             ? root->Int("sliding_window", 4096)
                             : 0;
  ReadLayerTypes(
      window,
      [&](int32_t layer) { return slides && window > 0 && layer >= full; },
      root, model);
  ReadRope({}, root, model);
}

void ReadQwen2(ObjectReader* root, ModelConfig* model) {
  model->architecture = "qwen2";
  ReadDecoder({.kv_heads = 32, .max_position = 32768}, root, model);
  model->qkv_bias = true;
  ReadQwen(root, model);
}

void ReadQwen3(ObjectReader* root, ModelConfig* model) {
  model->architecture = "qwen3";
  ReadDecoder({.kv_heads = 32, .head_dim = 128, .max_position = 32768}, root,
              model);
  ReadAttentionBias(root, model);
  model->qk_norm = true;
  ReadQwen(root, model);
}

void ReadGemma(int32_t max_position, int32_t pattern, ObjectReader* root,
               ModelConfig* model) {
  ReadDecoder({.kv_heads = 4,
               .head_dim = 256,
               .max_position = max_position,
               .tied = true},
              root, model);
  ReadAttentionBias(root, model);
  root->Refuse("use_bidirectional_attention");
  model->activation =
      ReadActivation("hidden_activation", "gelu_pytorch_tanh", root);
  model->post_norms = true;
  model->embedding_scale = std::sqrt(static_cast<float>(model->hidden_size));
  const float scalar = root->Float("query_pre_attn_scalar", 256.0f);
  if (!(scalar > 0)) root->Fail("query_pre_attn_scalar must be positive");
  model->attention_scale =
      static_cast<float>(1 / std::sqrt(static_cast<double>(scalar)));
  const int32_t window =
      root->IsNull("sliding_window") ? 0 : root->Int("sliding_window", 4096);
  ReadLayerTypes(
      window, [&](int32_t layer) { return (layer + 1) % pattern != 0; }, root,
      model);
}

// A cap of null is none.
float ReadCap(absl::string_view key, float missing, ObjectReader* root) {
  if (root->IsNull(key)) return 0.0f;
  const float cap = root->Float(key, missing);
  if (root->Has(key) && !(cap > 0)) {
    root->Fail(absl::StrCat(key, " must be positive"));
  }
  return cap;
}

void ReadGemma2(ObjectReader* root, ModelConfig* model) {
  model->architecture = "gemma2";
  ReadGemma(8192, 2, root, model);
  model->attention_logit_cap = ReadCap("attn_logit_softcapping", 50.0f, root);
  model->final_logit_cap = ReadCap("final_logit_softcapping", 30.0f, root);
  ReadRope({}, root, model);
}

void ReadGemma3(ObjectReader* root, ModelConfig* model) {
  model->architecture = "gemma3";
  const int32_t pattern = root->Int("sliding_window_pattern",
                                    root->Int("_sliding_window_pattern", 6));
  if (pattern == 0) root->Fail("sliding_window_pattern must be positive");
  ReadGemma(131072, pattern == 0 ? 1 : pattern, root, model);
  model->qk_norm = true;
  // Transformers reads it and never applies it.
  root->Refuse("attn_logit_softcapping");
  model->final_logit_cap = ReadCap("final_logit_softcapping", 0.0f, root);
  ReadGlobalAndWindowRope(root, model);
}

void ReadPhi3(ObjectReader* root, ModelConfig* model) {
  model->architecture = "phi3";
  ReadDecoder({.max_position = 4096, .norm_eps = 1e-5f}, root, model);
  for (const absl::string_view key :
       {"attention_bias", "mlp_bias", "lm_head_bias"}) {
    root->Refuse(key);
  }
  model->activation = ReadActivation("hidden_act", "silu", root);
  model->naming = ModuleNaming::kPhi3;
  ReadWindow(0, root, model);
  ReadRope({.partial = true, .yarn_is_longrope = true}, root, model);
}

void ReadGpt2(ObjectReader* root, ModelConfig* model) {
  model->architecture = "gpt2";
  for (const absl::string_view key :
       {"n_layer", "n_embd", "n_head", "vocab_size"}) {
    root->Require(key);
  }
  for (const absl::string_view key :
       {"scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn",
        "add_cross_attention"}) {
    root->Refuse(key);
  }
  model->num_layers = root->Int("n_layer", 0);
  model->hidden_size = root->Int("n_embd", 0);
  model->num_heads = root->Int("n_head", 0);
  model->num_kv_heads = model->num_heads;
  if (model->num_heads > 0) {
    model->head_dim = model->hidden_size / model->num_heads;
    if (model->hidden_size % model->num_heads != 0) {
      root->Fail(absl::StrCat("n_embd ", model->hidden_size,
                              " is no multiple of n_head ", model->num_heads));
    }
  }
  const int64_t usual = int64_t{4} * model->hidden_size;
  if (usual > INT32_MAX) root->Fail("n_embd is out of range");
  model->intermediate_size = root->Int("n_inner", static_cast<int32_t>(usual));
  model->vocab_size = root->Int("vocab_size", 0);
  model->max_position = root->Int("n_positions", 1024);
  model->norm_eps = root->Float("layer_norm_epsilon", 1e-5f);
  model->tied_embeddings = root->Bool("tie_word_embeddings", true);
  model->norm = NormKind::kLayer;
  model->position = PositionKind::kLearned;
  model->activation = ReadActivation("activation_function", "gelu_new", root);
  model->gated_mlp = false;
  model->qkv_bias = true;
  model->out_bias = true;
  model->mlp_bias = true;
  if (!root->Bool("scale_attn_weights", true)) model->attention_scale = 1.0f;
  model->naming = ModuleNaming::kGpt2;
}

constexpr TensorRule kModelTensors[] = {
    {"model.embed_tokens.weight", {WeightKind::kEmbedding}},
    {"model.norm.weight", {WeightKind::kFinalNorm}},
    {"lm_head.weight", {WeightKind::kHead}},
};

// Which of them a model has is its configuration's to say (HasWeight).
constexpr TensorRule kLlamaModules[] = {
    {"self_attn.q_proj.weight", {WeightKind::kQuery}},
    {"self_attn.q_proj.bias", {WeightKind::kQueryBias}},
    {"self_attn.k_proj.weight", {WeightKind::kKey}},
    {"self_attn.k_proj.bias", {WeightKind::kKeyBias}},
    {"self_attn.v_proj.weight", {WeightKind::kValue}},
    {"self_attn.v_proj.bias", {WeightKind::kValueBias}},
    {"self_attn.o_proj.weight", {WeightKind::kAttentionOut}},
    {"self_attn.o_proj.bias", {WeightKind::kAttentionOutBias}},
    {"mlp.gate_proj.weight", {WeightKind::kGate}},
    {"mlp.gate_proj.bias", {WeightKind::kGateBias}},
    {"mlp.up_proj.weight", {WeightKind::kUp}},
    {"mlp.up_proj.bias", {WeightKind::kUpBias}},
    {"mlp.down_proj.weight", {WeightKind::kDown}},
    {"mlp.down_proj.bias", {WeightKind::kDownBias}},
};

constexpr TensorRule kLlamaNorms[] = {
    {"input_layernorm.weight", {WeightKind::kAttentionNorm}},
    {"self_attn.q_norm.weight", {WeightKind::kQueryNorm}},
    {"self_attn.k_norm.weight", {WeightKind::kKeyNorm}},
    {"post_attention_layernorm.weight", {WeightKind::kMlpNorm}},
};

// Here post_attention_layernorm is what it says.
constexpr TensorRule kGemmaNorms[] = {
    {"input_layernorm.weight", {WeightKind::kAttentionNorm}},
    {"self_attn.q_norm.weight", {WeightKind::kQueryNorm}},
    {"self_attn.k_norm.weight", {WeightKind::kKeyNorm}},
    {"post_attention_layernorm.weight", {WeightKind::kAttentionPostNorm}},
    {"pre_feedforward_layernorm.weight", {WeightKind::kMlpNorm}},
    {"post_feedforward_layernorm.weight", {WeightKind::kMlpPostNorm}},
};

constexpr TensorRule kPhi3Modules[] = {
    {"self_attn.qkv_proj.weight",
     {WeightKind::kQuery, WeightKind::kKey, WeightKind::kValue},
     3},
    {"self_attn.o_proj.weight", {WeightKind::kAttentionOut}},
    {"mlp.gate_up_proj.weight", {WeightKind::kGate, WeightKind::kUp}, 2},
    {"mlp.down_proj.weight", {WeightKind::kDown}},
};

constexpr TensorRule kGpt2Model[] = {
    {"transformer.wte.weight", {WeightKind::kEmbedding}},
    {"transformer.wpe.weight", {WeightKind::kPositionEmbedding}},
    {"transformer.ln_f.weight", {WeightKind::kFinalNorm}},
    {"transformer.ln_f.bias", {WeightKind::kFinalNormBias}},
    {"lm_head.weight", {WeightKind::kHead}},
};

constexpr TensorRule kGpt2Modules[] = {
    {"attn.c_attn.weight",
     {WeightKind::kQuery, WeightKind::kKey, WeightKind::kValue},
     3,
     true},
    {"attn.c_attn.bias",
     {WeightKind::kQueryBias, WeightKind::kKeyBias, WeightKind::kValueBias},
     3},
    {"attn.c_proj.weight", {WeightKind::kAttentionOut}, 1, true},
    {"attn.c_proj.bias", {WeightKind::kAttentionOutBias}},
    {"mlp.c_fc.weight", {WeightKind::kUp}, 1, true},
    {"mlp.c_fc.bias", {WeightKind::kUpBias}},
    {"mlp.c_proj.weight", {WeightKind::kDown}, 1, true},
    {"mlp.c_proj.bias", {WeightKind::kDownBias}},
};

constexpr TensorRule kGpt2Norms[] = {
    {"ln_1.weight", {WeightKind::kAttentionNorm}},
    {"ln_1.bias", {WeightKind::kAttentionNormBias}},
    {"ln_2.weight", {WeightKind::kMlpNorm}},
    {"ln_2.bias", {WeightKind::kMlpNormBias}},
};

constexpr HuggingFaceFamily kFamilies[] = {
    {"LlamaForCausalLM", ReadLlama, "model.", "layers", kLlamaModules,
     kLlamaNorms, kModelTensors},
    {"MistralForCausalLM", ReadMistral, "model.", "layers", kLlamaModules,
     kLlamaNorms, kModelTensors},
    {"Qwen2ForCausalLM", ReadQwen2, "model.", "layers", kLlamaModules,
     kLlamaNorms, kModelTensors},
    {"Qwen3ForCausalLM", ReadQwen3, "model.", "layers", kLlamaModules,
     kLlamaNorms, kModelTensors},
    {"Gemma2ForCausalLM", ReadGemma2, "model.", "layers", kLlamaModules,
     kGemmaNorms, kModelTensors, true},
    {"Gemma3ForCausalLM", ReadGemma3, "model.", "layers", kLlamaModules,
     kGemmaNorms, kModelTensors, true},
    {"Phi3ForCausalLM", ReadPhi3, "model.", "layers", kPhi3Modules, kLlamaNorms,
     kModelTensors},
    {"GPT2LMHeadModel", ReadGpt2, "transformer.", "h", kGpt2Modules, kGpt2Norms,
     kGpt2Model},
};

}  // namespace

const HuggingFaceFamily* FindHuggingFaceFamily(absl::string_view architecture) {
  for (const HuggingFaceFamily& family : kFamilies) {
    if (family.architecture == architecture) return &family;
  }
  return nullptr;
}

std::string HuggingFaceFamilyNames() {
  return absl::StrJoin(kFamilies, ", ",
                       [](std::string* out, const HuggingFaceFamily& family) {
                         absl::StrAppend(out, family.architecture);
                       });
}

}  // namespace descant
