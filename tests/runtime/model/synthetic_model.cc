#include "tests/runtime/model/synthetic_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/model/model_assembly.h"
#include "runtime/model/weight_source.h"

namespace descant {
namespace {

// Sizes in the order of ModelConfig.
struct Sizes {
  const char* name;
  int32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
  int32_t positions;
};

constexpr Sizes kSizes[] = {
    {"mistral-7b", 32, 4096, 14336, 32, 8, 128, 32000, 32768},
    {"qwen2.5-0.5b", 24, 896, 4864, 14, 2, 64, 151936, 32768},
    {"qwen3-0.6b", 28, 1024, 3072, 16, 8, 128, 151936, 40960},
    {"gemma2-2b", 26, 2304, 9216, 8, 4, 256, 256000, 8192},
    {"gemma3-1b", 26, 1152, 6912, 4, 1, 256, 262144, 32768},
    {"phi3-mini", 32, 3072, 8192, 32, 32, 96, 32064, 4096},
    {"gpt2", 12, 768, 3072, 12, 12, 64, 50257, 1024},
};

// What sets a family apart from Llama.
void AddFeatures(const std::string& shape, ModelConfig* config) {
  if (shape == "mistral-7b") config->windows.assign(config->num_layers, 4096);
  if (shape == "qwen2.5-0.5b") {
    config->qkv_bias = true;
    config->tied_embeddings = true;
  }
  if (shape == "qwen3-0.6b") {
    config->qk_norm = true;
    config->tied_embeddings = true;
  }
  if (shape == "phi3-mini") {
    config->naming = ModuleNaming::kPhi3;
    config->windows.assign(config->num_layers, 2047);
  }
  if (shape == "gpt2") {
    config->naming = ModuleNaming::kGpt2;
    config->norm = NormKind::kLayer;
    config->position = PositionKind::kLearned;
    config->activation = Activation::kGeluTanh;
    config->gated_mlp = false;
    config->qkv_bias = config->out_bias = config->mlp_bias = true;
    config->tied_embeddings = true;
  }
  if (shape.rfind("gemma", 0) != 0) return;
  config->activation = Activation::kGeluTanh;
  config->post_norms = true;
  config->tied_embeddings = true;
  config->embedding_scale = std::sqrt(static_cast<float>(config->hidden_size));
  const bool third = shape.rfind("gemma3", 0) == 0;
  for (int32_t layer = 0; layer < config->num_layers; ++layer) {
    const bool all = third ? layer % 6 == 5 : layer % 2 == 1;
    config->windows.push_back(all ? 0 : (third ? 512 : 4096));
  }
  if (third) {
    config->qk_norm = true;
    config->window_rope = config->rope;
    config->rope.theta = 1e6f;
  } else {
    config->attention_logit_cap = 50;
    config->final_logit_cap = 30;
  }
}

// Element i of a tensor, uniform in [-1, 1): SplitMix64's finalizer.
float Noise(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<float>(static_cast<int64_t>(z) >> 40) * 0x1p-23f;
}

class SyntheticWeights final : public WeightSource {
 public:
  SyntheticWeights(const ModelConfig& config, uint64_t seed)
      : config_(config), seed_(seed) {}

  absl::Status ReadBf16(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<BFloat16> out) const override {
    Fill(kind, layer, row_begin, out.size(),
         [&](size_t i, float value) { out[i] = ToBFloat16(value); });
    return absl::OkStatus();
  }
  absl::Status ReadFp32(WeightKind kind, int32_t layer, int64_t row_begin,
                        absl::Span<float> out) const override {
    Fill(kind, layer, row_begin, out.size(),
         [&](size_t i, float value) { out[i] = ToFloat(ToBFloat16(value)); });
    return absl::OkStatus();
  }

 private:
  template <typename Put>
  void Fill(WeightKind kind, int32_t layer, int64_t row_begin, size_t count,
            const Put& put) const {
    DESCANT_CHECK(HasWeight(config_, kind));
    if (kind == WeightKind::kHead && config_.tied_embeddings) {
      kind = WeightKind::kEmbedding;
    }
    const WeightShape shape = ShapeOf(config_, kind);
    const int64_t model_wide = static_cast<int32_t>(kind) >= kLayerWeightKinds;
    const uint64_t seed = seed_ + 1000003 * static_cast<uint64_t>(kind) +
                          (model_wide ? 0 : 7919 * (layer + 1));
    float offset = 0;
    float width = std::sqrt(3.0f / static_cast<float>(shape.columns));
    if (IsNorm(kind)) {
      offset = 1;
      width = 0.5f;
    } else if (shape.rows == 1) {
      width = 0.1f;
    }
    const uint64_t first = row_begin * shape.columns;
    for (size_t i = 0; i < count; ++i) {
      put(i, offset + width * Noise(seed, first + i));
    }
  }

  static bool IsNorm(WeightKind kind) {
    switch (kind) {
      case WeightKind::kAttentionNorm:
      case WeightKind::kQueryNorm:
      case WeightKind::kKeyNorm:
      case WeightKind::kAttentionPostNorm:
      case WeightKind::kMlpNorm:
      case WeightKind::kMlpPostNorm:
      case WeightKind::kFinalNorm:
        return true;
      default:
        return false;
    }
  }

  const ModelConfig config_;
  const uint64_t seed_;
};

}  // namespace

std::vector<std::string> SyntheticShapes() {
  std::vector<std::string> names;
  for (const Sizes& sizes : kSizes) names.push_back(sizes.name);
  return names;
}

std::optional<ModelConfig> SyntheticConfig(const std::string& shape,
                                           int32_t layers) {
  for (const Sizes& sizes : kSizes) {
    if (shape != sizes.name) continue;
    ModelConfig config;
    config.architecture = shape;
    config.num_layers =
        layers == 0 ? sizes.layers : std::min(layers, sizes.layers);
    config.hidden_size = sizes.hidden;
    config.intermediate_size = sizes.intermediate;
    config.num_heads = sizes.heads;
    config.num_kv_heads = sizes.kv_heads;
    config.head_dim = sizes.head_dim;
    config.vocab_size = sizes.vocab;
    config.max_position = sizes.positions;
    AddFeatures(shape, &config);
    return config;
  }
  return std::nullopt;
}

std::shared_ptr<const Model> MakeSyntheticModel(const ModelConfig& config,
                                                uint64_t seed) {
  DESCANT_CHECK(ValidateModelConfig(config).ok());
  auto model = std::make_shared<Model>();
  model->config = config;
  model->base_shape.modules = AdaptableModules(config);
  model->name = config.architecture;
  model->weights = std::make_shared<SyntheticWeights>(config, seed);
  return model;
}

std::shared_ptr<const Adapter> MakeSyntheticAdapter(const BaseShape& base,
                                                    int32_t rank,
                                                    bool all_modules,
                                                    uint32_t seed) {
  auto adapter = std::make_shared<Adapter>();
  int64_t elements = 0;
  std::vector<const BaseModule*> modules;
  for (const BaseModule& module : base.modules) {
    if (!all_modules && module.kind != LinearKind::kQ &&
        module.kind != LinearKind::kV && module.kind != LinearKind::kQkv) {
      continue;
    }
    modules.push_back(&module);
    elements += int64_t{rank} * (module.in + module.out);
  }
  auto values = std::make_shared<std::vector<BFloat16>>(elements);
  std::mt19937 random(seed);
  for (BFloat16& value : *values) {
    value = ToBFloat16((static_cast<float>(random() % 2001) - 1000) * 1e-5f);
  }
  const BFloat16* at = values->data();
  for (const BaseModule* module : modules) {
    AdapterModule lora;
    lora.layer = module->layer;
    lora.kind = module->kind;
    lora.rank = rank;
    lora.scale = 2;
    lora.a = {Dtype::kBF16, rank, module->in, at};
    at += int64_t{rank} * module->in;
    lora.b = {Dtype::kBF16, module->out, rank, at};
    at += int64_t{rank} * module->out;
    adapter->modules.push_back(lora);
  }
  adapter->max_rank = rank;
  adapter->buffer = std::shared_ptr<const char>(
      values, reinterpret_cast<const char*>(values->data()));
  return adapter;
}

}  // namespace descant
