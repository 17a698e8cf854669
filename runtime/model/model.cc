#include "runtime/model/model.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "runtime/model/gguf_model.h"
#include "runtime/model/hf_model.h"
#include "runtime/model/model_assembly.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {
namespace {

// One linear module: the weights it holds, one below the other.
struct ModuleRule {
  LinearKind kind;
  absl::string_view suffix;
  std::array<WeightKind, 3> parts;
  int32_t num_parts = 1;
};

// By LinearKind.
constexpr ModuleRule kLlamaModules[] = {
    {LinearKind::kQ, "self_attn.q_proj", {WeightKind::kQuery}},
    {LinearKind::kK, "self_attn.k_proj", {WeightKind::kKey}},
    {LinearKind::kV, "self_attn.v_proj", {WeightKind::kValue}},
    {LinearKind::kO, "self_attn.o_proj", {WeightKind::kAttentionOut}},
    {LinearKind::kGate, "mlp.gate_proj", {WeightKind::kGate}},
    {LinearKind::kUp, "mlp.up_proj", {WeightKind::kUp}},
    {LinearKind::kDown, "mlp.down_proj", {WeightKind::kDown}},
};
constexpr ModuleRule kPhi3Modules[] = {
    {LinearKind::kO, "self_attn.o_proj", {WeightKind::kAttentionOut}},
    {LinearKind::kDown, "mlp.down_proj", {WeightKind::kDown}},
    {LinearKind::kQkv,
     "self_attn.qkv_proj",
     {WeightKind::kQuery, WeightKind::kKey, WeightKind::kValue},
     3},
    {LinearKind::kGateUp,
     "mlp.gate_up_proj",
     {WeightKind::kGate, WeightKind::kUp},
     2},
};
constexpr ModuleRule kGpt2Modules[] = {
    {LinearKind::kO, "attn.c_proj", {WeightKind::kAttentionOut}},
    {LinearKind::kUp, "mlp.c_fc", {WeightKind::kUp}},
    {LinearKind::kDown, "mlp.c_proj", {WeightKind::kDown}},
    {LinearKind::kQkv,
     "attn.c_attn",
     {WeightKind::kQuery, WeightKind::kKey, WeightKind::kValue},
     3},
};

struct NamingRule {
  absl::string_view layers;
  absl::Span<const ModuleRule> modules;
};

NamingRule RuleOf(ModuleNaming naming) {
  switch (naming) {
    case ModuleNaming::kLlama:
      break;
    case ModuleNaming::kPhi3:
      return {"model.layers.", kPhi3Modules};
    case ModuleNaming::kGpt2:
      return {"transformer.h.", kGpt2Modules};
  }
  return {"model.layers.", kLlamaModules};
}

// llama.cpp stores Mistral as a llama. Its converter of adapters writes those
// of GPT-2 transposed, as if they were the base's matrices, and no reader
// computes them so: none are taken.
std::string GgufArchitecture(const ModelConfig& config) {
  if (config.naming == ModuleNaming::kGpt2) return "";
  return config.architecture == "mistral" ? "llama" : config.architecture;
}

// Of a module in a GGUF file of the model: see BaseModule.
int32_t GgufInterleavedHeads(const ModelConfig& config, LinearKind kind) {
  if (GgufArchitecture(config) != "llama") return 0;
  if (kind == LinearKind::kQ) return config.num_heads;
  return kind == LinearKind::kK ? config.num_kv_heads : 0;
}

}  // namespace

std::vector<BaseModule> AdaptableModules(const ModelConfig& config) {
  const NamingRule rule = RuleOf(config.naming);
  std::vector<BaseModule> modules;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const ModuleRule& module : rule.modules) {
      BaseModule entry;
      entry.path = absl::StrCat(rule.layers, layer, ".", module.suffix);
      entry.layer = layer;
      entry.kind = module.kind;
      entry.gguf_interleaved_heads = GgufInterleavedHeads(config, module.kind);
      for (int32_t i = 0; i < module.num_parts; ++i) {
        const WeightShape shape = ShapeOf(config, module.parts[i]);
        entry.in = static_cast<int32_t>(shape.columns);
        entry.out += static_cast<int32_t>(shape.rows);
      }
      modules.push_back(std::move(entry));
    }
  }
  return modules;
}

std::string NameFromPath(const std::string& path) {
  std::filesystem::path file(path);
  if (!file.has_filename()) file = file.parent_path();
  return file.extension() == ".gguf" ? file.stem().string()
                                     : file.filename().string();
}

absl::StatusOr<LoadedModel> AssembleModel(ModelParts parts) {
  const int32_t vocab = parts.config.vocab_size;
  if (parts.tokenizer->vocab_size() > vocab) {
    return absl::InvalidArgumentError(absl::StrCat(
        parts.path, ": the tokenizer has ", parts.tokenizer->vocab_size(),
        " ids, the embedding only ", vocab, " rows"));
  }
  std::vector<int32_t>& eos = parts.eos_token_ids;
  if (eos.empty() && parts.tokenizer->eos_id().has_value()) {
    eos.push_back(*parts.tokenizer->eos_id());
  }
  std::sort(eos.begin(), eos.end());
  eos.erase(std::unique(eos.begin(), eos.end()), eos.end());
  if (!eos.empty() && (eos.front() < 0 || eos.back() >= vocab)) {
    return absl::InvalidArgumentError(absl::StrCat(
        parts.path, ": end-of-sequence id outside [0, ", vocab, ")"));
  }
  auto model = std::make_shared<Model>();
  model->base_shape.modules = AdaptableModules(parts.config);
  model->base_shape.fingerprint = parts.weights->Fingerprint();
  model->base_shape.gguf_architecture = GgufArchitecture(parts.config);
  model->config = std::move(parts.config);
  model->name = std::move(parts.name);
  model->chat_template = std::move(parts.chat_template);
  model->tool_use_template = std::move(parts.tool_use_template);
  model->eos_token_ids = std::move(eos);
  model->weights = std::move(parts.weights);
  return LoadedModel{std::move(model), std::move(parts.tokenizer)};
}

absl::StatusOr<LoadedModel> LoadModel(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (std::filesystem::is_directory(status)) {
    return LoadHuggingFaceModel(path);
  }
  if (!std::filesystem::exists(status)) {
    return absl::NotFoundError(absl::StrCat(path, ": no such model"));
  }
  if (!absl::EndsWith(path, ".gguf")) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": neither a Hugging Face directory nor a .gguf file"));
  }
  return LoadGgufModel(path);
}

uint64_t MostMergedBytes(const Model& model) {
  uint64_t bytes = 0;
  for (const BaseModule& module : model.base_shape.modules) {
    bytes += 2 * static_cast<uint64_t>(module.in) * module.out;
  }
  return bytes;
}

}  // namespace descant
