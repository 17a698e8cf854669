#include "runtime/model/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/gguf_keys.h"

namespace descant {
namespace {

class ConfigReader {
 public:
  ConfigReader(const GgufParts& parts, std::string architecture)
      : parts_(parts),
        keys_(parts.keys(), parts.path()),
        architecture_(std::move(architecture)) {
    config_.architecture = architecture_;
  }

  absl::StatusOr<ModelConfig> Read();

 private:
  std::string Key(absl::string_view suffix) const {
    return absl::StrCat(architecture_, ".", suffix);
  }
  int32_t Int(absl::string_view suffix, std::optional<int32_t> missing) {
    return keys_.Int(Key(suffix), missing);
  }
  float Float(absl::string_view suffix, std::optional<float> missing) {
    return keys_.Float(Key(suffix), missing);
  }

  void ReadSizes();
  void ReadVocabularySize();
  void RefuseOthers();
  void ReadBiases();
  void ReadRope();
  void ReadYarn();
  void ReadLongRope();
  std::vector<float> ReadDivisors(absl::string_view name);
  void ReadWindows(int32_t missing_window, int32_t missing_pattern);

  void ReadLlama();
  void ReadQwen();
  void ReadGemma2();
  void ReadGemma3();
  void ReadGemma(int32_t layers_of_27b);
  void ReadPhi3();
  void ReadGpt2();

  const GgufParts& parts_;
  GgufKeys keys_;
  const std::string architecture_;
  ModelConfig config_;
};

void ConfigReader::ReadSizes() {
  config_.num_layers = Int("block_count", {});
  config_.hidden_size = Int("embedding_length", {});
  config_.intermediate_size = Int("feed_forward_length", {});
  config_.num_heads = Int("attention.head_count", {});
  config_.num_kv_heads = Int("attention.head_count_kv", config_.num_heads);
  config_.max_position = Int("context_length", {});
  const int32_t usual_head =
      config_.num_heads > 0 ? config_.hidden_size / config_.num_heads : 0;
  config_.head_dim = Int("attention.key_length", usual_head);
  if (Int("attention.value_length", config_.head_dim) != config_.head_dim) {
    keys_.Fail("key and value sizes of a head must be equal");
  }
  config_.tied_embeddings = !parts_.Has("output.weight");
  ReadVocabularySize();
}

void ConfigReader::ReadVocabularySize() {
  const GgufTensor* embedding = parts_.Find("token_embd.weight").tensor;
  if (embedding == nullptr || embedding->dims.size() != 2 ||
      embedding->dims[1] > std::numeric_limits<int32_t>::max()) {
    keys_.Fail("tensor token_embd.weight: must be a matrix");
    return;
  }
  config_.vocab_size = static_cast<int32_t>(embedding->dims[1]);
  if (Int("vocab_size", config_.vocab_size) != config_.vocab_size) {
    keys_.Fail(absl::StrCat(Key("vocab_size"), " differs from the ",
                            config_.vocab_size, " rows of token_embd.weight"));
  }
}

void ConfigReader::RefuseOthers() {
  if (Int("expert_count", 0) != 0) {
    keys_.Fail(
        absl::StrCat(Key("expert_count"), ": experts are not supported"));
  }
  if (!keys_.Bool(Key("attention.causal"), true)) {
    keys_.Fail(absl::StrCat(Key("attention.causal"),
                            ": only causal attention is supported"));
  }
  for (const absl::string_view suffix :
       {"logit_scale", "residual_scale", "embedding_scale", "attention.scale",
        "attention.output_scale", "attention.temperature_scale",
        "attention.clamp_kqv", "attention.max_alibi_bias",
        "attention.shared_kv_layers", "attention.key_length_swa",
        "attention.value_length_swa", "rope.dimension_count_swa",
        "rope.dimension_sections", "nextn_predict_layers",
        "use_parallel_residual"}) {
    if (keys_.Has(Key(suffix))) {
      keys_.Fail(absl::StrCat("key ", Key(suffix), " is not supported"));
    }
  }
}

void ConfigReader::ReadBiases() {
  config_.qkv_bias =
      parts_.Has("blk.0.attn_q.bias") || parts_.Has("blk.0.attn_qkv.bias");
  config_.out_bias = parts_.Has("blk.0.attn_output.bias");
  config_.mlp_bias = parts_.Has("blk.0.ffn_up.bias");
}

std::vector<float> ConfigReader::ReadDivisors(absl::string_view name) {
  const GgufParts::Found found = parts_.Find(name);
  if (found.tensor == nullptr) return {};
  const int32_t pairs = RotaryDim(config_.rope, config_.head_dim) / 2;
  const absl::Span<const char> bytes = found.file->Bytes(*found.tensor);
  if (found.tensor->type != GgufType::kF32 ||
      bytes.size() != sizeof(float) * pairs) {
    keys_.Fail(absl::StrCat("tensor ", name, ": must be F32 [", pairs, "]"));
    return {};
  }
  std::vector<float> divisors(pairs);
  std::memcpy(divisors.data(), bytes.data(), bytes.size());
  return divisors;
}

void ConfigReader::ReadRope() {
  RopeConfig& rope = config_.rope;
  const int32_t dim = Int("rope.dimension_count", config_.head_dim);
  if (dim != config_.head_dim) rope.rotary_dim = dim;
  rope.theta = Float("rope.freq_base", 10000.0f);
  rope.factor = Float("rope.scaling.factor", Float("rope.scale_linear", 1.0f));
  if (rope.factor == 0) rope.factor = 1;  // as llama.cpp reads it
  const std::string type = keys_.String(
      Key("rope.scaling.type"), parts_.Has(kRopeLong) ? "longrope" : "linear");
  if (type == "linear") {
    if (rope.factor != 1) rope.scaling = RopeScaling::kLinear;
  } else if (type == "yarn") {
    ReadYarn();
  } else if (type == "longrope") {
    ReadLongRope();
  } else if (type == "none") {
    rope.factor = 1;
  } else {
    keys_.Fail(absl::StrCat("rope scaling ", JsonQuote(type),
                            " is not supported, only \"none\", \"linear\", "
                            "\"yarn\" and \"longrope\""));
  }
  if (rope.scaling != RopeScaling::kLongRope) {
    rope.frequency_divisors = ReadDivisors(kRopeDivisors);
  }
}

// The factor on cos and sin is Hugging Face's: the file's, where the model's
// configuration had one, else 0.1 ln(factor) + 1.
void ConfigReader::ReadYarn() {
  RopeConfig& rope = config_.rope;
  rope.scaling = RopeScaling::kYarn;
  rope.original_max_position =
      Int("rope.scaling.original_context_length", config_.max_position);
  rope.beta_fast = Float("rope.scaling.yarn_beta_fast", 32.0f);
  rope.beta_slow = Float("rope.scaling.yarn_beta_slow", 1.0f);
  const double usual =
      rope.factor > 1 ? 0.1 * std::log(static_cast<double>(rope.factor)) + 1
                      : 1.0;
  rope.attention_factor =
      Float("rope.scaling.yarn_attn_factor", static_cast<float>(usual)) *
      Float("rope.scaling.attn_factor", 1.0f);
  if (Float("rope.scaling.yarn_ext_factor", 1.0f) != 1 ||
      Float("rope.scaling.yarn_log_multiplier", 0.0f) != 0) {
    keys_.Fail(absl::StrCat("keys ", Key("rope.scaling.yarn_ext_factor"),
                            " other than 1 and ",
                            Key("rope.scaling.yarn_log_multiplier"),
                            " other than 0 are not supported"));
  }
}

// Only the original context is served, where the short divisors hold.
void ConfigReader::ReadLongRope() {
  RopeConfig& rope = config_.rope;
  rope.scaling = RopeScaling::kLongRope;
  rope.factor = 1;
  rope.frequency_divisors = ReadDivisors(kRopeShort);
  rope.attention_factor = Float("rope.scaling.attn_factor", 1.0f);
  const int32_t original = Int("rope.scaling.original_context_length", {});
  config_.max_position = std::min(config_.max_position, original);
  if (rope.frequency_divisors.empty() || ReadDivisors(kRopeLong).empty()) {
    keys_.Fail(absl::StrCat("rope scaling \"longrope\" needs the tensors ",
                            kRopeShort, " and ", kRopeLong));
  }
}

// In a pattern of n, layers i with i % n < n - 1 have the window.
void ConfigReader::ReadWindows(int32_t missing_window,
                               int32_t missing_pattern) {
  const int32_t window = Int("attention.sliding_window", missing_window);
  if (window == 0 || config_.num_layers > 1024) return;
  config_.windows.assign(config_.num_layers, 0);
  const std::string key = Key("attention.sliding_window_pattern");
  if (const auto flags = parts_.keys().GetBoolArray(key); flags.has_value()) {
    if (flags->size() != config_.windows.size()) {
      keys_.Fail(absl::StrCat("key ", key, " must have one entry a layer"));
      return;
    }
    for (size_t i = 0; i < flags->size(); ++i) {
      config_.windows[i] = (*flags)[i] ? window : 0;
    }
    return;
  }
  const int32_t pattern = keys_.Int(key, missing_pattern);
  for (int32_t i = 0; i < config_.num_layers; ++i) {
    if (pattern == 0 || i % pattern < pattern - 1) {
      config_.windows[i] = window;
    }
  }
}

void ConfigReader::ReadLlama() {
  config_.norm_eps = Float("attention.layer_norm_rms_epsilon", {});
  ReadBiases();
  ReadRope();
  // Rows of q and k are stored for interleaved pairs of the whole head.
  if (config_.rope.rotary_dim != 0) {
    keys_.Fail("key and rope sizes of a head must be equal");
  }
  if (Int("attention.sliding_window", 0) != 0) {
    keys_.Fail(absl::StrCat("key ", Key("attention.sliding_window"),
                            " is not supported"));
  }
}

void ConfigReader::ReadQwen() {
  ReadLlama();
  config_.qk_norm = architecture_ == "qwen3";
}

void ConfigReader::ReadGemma(int32_t layers_of_27b) {
  config_.norm_eps = Float("attention.layer_norm_rms_epsilon", {});
  config_.post_norms = true;
  config_.activation = Activation::kGeluTanh;
  config_.embedding_scale =
      static_cast<float>(std::sqrt(static_cast<double>(config_.hidden_size)));
  if (config_.num_layers == layers_of_27b && config_.num_heads > 0) {
    const int32_t scalar = config_.hidden_size / config_.num_heads;
    config_.attention_scale =
        static_cast<float>(1 / std::sqrt(static_cast<double>(scalar)));
  }
  ReadRope();
}

void ConfigReader::ReadGemma2() {
  ReadGemma(46);
  ReadWindows(4096, 2);
  config_.attention_logit_cap = Float("attn_logit_softcapping", 50.0f);
  config_.final_logit_cap = Float("final_logit_softcapping", 30.0f);
  if (const float theta = Float("rope.freq_base_swa", config_.rope.theta);
      theta != config_.rope.theta) {
    config_.window_rope = config_.rope;
    config_.window_rope->theta = theta;
  }
}

void ConfigReader::ReadGemma3() {
  ReadGemma(62);
  config_.qk_norm = true;
  ReadWindows(0, 6);
  config_.final_logit_cap = Float("final_logit_softcapping", 0.0f);
  if (config_.windows.empty()) return;
  config_.window_rope.emplace();
  config_.window_rope->rotary_dim = config_.rope.rotary_dim;
  config_.window_rope->theta = Float("rope.freq_base_swa", 10000.0f);
}

void ConfigReader::ReadPhi3() {
  config_.norm_eps = Float("attention.layer_norm_rms_epsilon", {});
  config_.naming = ModuleNaming::kPhi3;
  ReadRope();
  ReadWindows(0, 0);
}

void ConfigReader::ReadGpt2() {
  config_.norm = NormKind::kLayer;
  config_.norm_eps = Float("attention.layer_norm_epsilon", {});
  config_.position = PositionKind::kLearned;
  config_.activation = Activation::kGeluTanh;
  config_.gated_mlp = false;
  config_.qkv_bias = config_.out_bias = config_.mlp_bias = true;
  config_.naming = ModuleNaming::kGpt2;
}

absl::StatusOr<ModelConfig> ConfigReader::Read() {
  static constexpr struct {
    absl::string_view name;
    void (ConfigReader::*read)();
  } kArchitectures[] = {
      {"llama", &ConfigReader::ReadLlama},
      {"qwen2", &ConfigReader::ReadQwen},
      {"qwen3", &ConfigReader::ReadQwen},
      {"gemma2", &ConfigReader::ReadGemma2},
      {"gemma3", &ConfigReader::ReadGemma3},
      {"phi3", &ConfigReader::ReadPhi3},
      {"gpt2", &ConfigReader::ReadGpt2},
  };
  std::string served;
  for (const auto& entry : kArchitectures) {
    absl::StrAppend(&served, served.empty() ? "" : ", ", entry.name);
    if (entry.name != architecture_) continue;
    ReadSizes();
    RefuseOthers();
    (this->*entry.read)();
    DESCANT_RETURN_IF_ERROR(keys_.status());
    if (const absl::Status status = ValidateModelConfig(config_);
        !status.ok()) {
      keys_.Fail(status.message());
      return keys_.status();
    }
    return std::move(config_);
  }
  const bool experts =
      absl::StrContains(architecture_, "moe") || architecture_ == "mixtral";
  keys_.Fail(absl::StrCat("unknown architecture ", JsonQuote(architecture_),
                          experts ? " (experts are not supported)" : "",
                          "; this server computes ", served));
  return keys_.status();
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufParts& parts) {
  GgufKeys keys(parts.keys(), parts.path());
  std::string architecture = keys.String("general.architecture", "");
  DESCANT_RETURN_IF_ERROR(keys.status());
  return ConfigReader(parts, std::move(architecture)).Read();
}

}  // namespace descant
