#include "runtime/model/model.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/model/gguf_model.h"
#include "runtime/model/hf_model.h"
#include "runtime/model/model_assembly.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {
namespace {

std::vector<BaseModule> AdaptableModules(const ModelConfig& config) {
  static constexpr struct {
    LinearKind kind;
    WeightKind weight;
    absl::string_view suffix;
  } kModules[] = {
      {LinearKind::kQ, WeightKind::kQuery, "self_attn.q_proj"},
      {LinearKind::kK, WeightKind::kKey, "self_attn.k_proj"},
      {LinearKind::kV, WeightKind::kValue, "self_attn.v_proj"},
      {LinearKind::kO, WeightKind::kAttentionOut, "self_attn.o_proj"},
      {LinearKind::kGate, WeightKind::kGate, "mlp.gate_proj"},
      {LinearKind::kUp, WeightKind::kUp, "mlp.up_proj"},
      {LinearKind::kDown, WeightKind::kDown, "mlp.down_proj"},
  };
  std::vector<BaseModule> modules;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const auto& module : kModules) {
      const WeightShape shape = ShapeOf(config, module.weight);
      modules.push_back(
          {absl::StrCat("model.layers.", layer, ".", module.suffix),
           static_cast<int32_t>(shape.columns),
           static_cast<int32_t>(shape.rows), layer, module.kind});
    }
  }
  return modules;
}

}  // namespace

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
  model->config = std::move(parts.config);
  model->name = std::move(parts.name);
  model->chat_template = std::move(parts.chat_template);
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

}  // namespace descant
