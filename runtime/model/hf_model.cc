#include "runtime/model/hf_model.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/formats/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/hf_tensors.h"
#include "runtime/model/model_assembly.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {
namespace {

constexpr JsonLimits kIndexLimits = {64 << 20, 8, 1 << 20};

std::string Join(const std::string& directory, absl::string_view name) {
  return absl::StrCat(directory, absl::EndsWith(directory, "/") ? "" : "/",
                      name);
}

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": can't be read"));
  return std::string(std::istreambuf_iterator<char>(file), {});
}

absl::StatusOr<std::string> ReadTextIfPresent(const std::string& path) {
  if (!Exists(path)) return std::string();
  return ReadText(path);
}

// The safetensors files, sorted.
absl::StatusOr<std::vector<std::string>> WeightFiles(
    const std::string& directory) {
  const std::string single = Join(directory, "model.safetensors");
  if (Exists(single)) return std::vector<std::string>{single};
  const std::string index = Join(directory, "model.safetensors.index.json");
  if (!Exists(index)) {
    return absl::NotFoundError(absl::StrCat(directory,
                                            ": no model.safetensors and no "
                                            "model.safetensors.index.json"));
  }
  DESCANT_ASSIGN_OR_RETURN(const std::string text, ReadText(index));
  const absl::StatusOr<JsonValue> root = ParseJson(text, kIndexLimits);
  if (!root.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(index, ": ", root.status().message()));
  }
  const JsonValue* map =
      root->kind() == JsonValue::kObject ? root->Find("weight_map") : nullptr;
  if (map == nullptr || map->kind() != JsonValue::kObject) {
    return absl::InvalidArgumentError(
        absl::StrCat(index, ": weight_map must be an object"));
  }
  std::vector<std::string> files;
  for (const JsonValue::Member& member : map->object()) {
    const JsonValue& file = member.second;
    if (file.kind() != JsonValue::kString ||
        absl::StrContains(file.string(), "/") ||
        !absl::EndsWith(file.string(), ".safetensors")) {
      return absl::InvalidArgumentError(absl::StrCat(
          index, ": weight_map must name safetensors files beside it"));
    }
    files.push_back(Join(directory, file.string()));
  }
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadHuggingFaceModel(const std::string& directory) {
  const std::string config_path = Join(directory, "config.json");
  DESCANT_ASSIGN_OR_RETURN(const std::string config_json,
                           ReadText(config_path));
  DESCANT_ASSIGN_OR_RETURN(HuggingFaceConfig config,
                           ParseHuggingFaceConfig(config_json, config_path));
  const std::string generation_path = Join(directory, "generation_config.json");
  std::vector<int32_t> eos;
  if (Exists(generation_path)) {
    DESCANT_ASSIGN_OR_RETURN(const std::string generation,
                             ReadText(generation_path));
    DESCANT_ASSIGN_OR_RETURN(eos,
                             ParseEosTokenIds(generation, generation_path));
  }
  const std::string tokenizer_path = Join(directory, "tokenizer.json");
  DESCANT_ASSIGN_OR_RETURN(const std::string tokenizer_json,
                           ReadText(tokenizer_path));
  DESCANT_ASSIGN_OR_RETURN(
      const std::string tokenizer_config,
      ReadTextIfPresent(Join(directory, "tokenizer_config.json")));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::FromHuggingFace(tokenizer_json, tokenizer_config);
  if (!tokenizer.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(tokenizer_path, ": ", tokenizer.status().message()));
  }
  DESCANT_ASSIGN_OR_RETURN(
      std::string chat_template,
      ReadTextIfPresent(Join(directory, "chat_template.jinja")));
  if (chat_template.empty()) {
    chat_template = std::string((*tokenizer)->chat_template());
  }
  DESCANT_ASSIGN_OR_RETURN(
      std::string tool_use_template,
      ReadTextIfPresent(
          Join(directory, "additional_chat_templates/tool_use.jinja")));
  if (tool_use_template.empty()) {
    tool_use_template = std::string((*tokenizer)->tool_use_template());
  }
  DESCANT_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                           WeightFiles(directory));
  DESCANT_ASSIGN_OR_RETURN(
      std::shared_ptr<const FileWeights> weights,
      OpenHuggingFaceWeights(paths, paths.size() == 1 ? paths[0] : directory,
                             config));
  ModelParts parts;
  parts.path = directory;
  parts.name = NameFromPath(directory);
  parts.config = std::move(config.model);
  parts.weights = std::move(weights);
  parts.tokenizer = *std::move(tokenizer);
  parts.chat_template = std::move(chat_template);
  parts.tool_use_template = std::move(tool_use_template);
  parts.eos_token_ids = eos.empty() ? std::move(config.eos_token_ids) : eos;
  return AssembleModel(std::move(parts));
}

}  // namespace descant
