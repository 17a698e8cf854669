#include "runtime/model/hf_model.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/hf_files.h"
#include "runtime/model/hf_tensors.h"
#include "runtime/model/model_assembly.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {
namespace {

absl::StatusOr<std::string> ReadTextIfPresent(const std::string& path) {
  if (!PathExists(path)) return std::string();
  return ReadTextFile(path);
}

}  // namespace

absl::StatusOr<LoadedModel> LoadHuggingFaceModel(const std::string& directory) {
  const std::string config_path = PathIn(directory, "config.json");
  DESCANT_ASSIGN_OR_RETURN(const std::string config_json,
                           ReadTextFile(config_path));
  DESCANT_ASSIGN_OR_RETURN(HuggingFaceConfig config,
                           ParseHuggingFaceConfig(config_json, config_path));
  const std::string generation_path =
      PathIn(directory, "generation_config.json");
  std::vector<int32_t> eos;
  if (PathExists(generation_path)) {
    DESCANT_ASSIGN_OR_RETURN(const std::string generation,
                             ReadTextFile(generation_path));
    DESCANT_ASSIGN_OR_RETURN(eos,
                             ParseEosTokenIds(generation, generation_path));
  }
  const std::string tokenizer_path = PathIn(directory, "tokenizer.json");
  DESCANT_ASSIGN_OR_RETURN(const std::string tokenizer_json,
                           ReadTextFile(tokenizer_path));
  DESCANT_ASSIGN_OR_RETURN(
      const std::string tokenizer_config,
      ReadTextIfPresent(PathIn(directory, "tokenizer_config.json")));
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::FromHuggingFace(tokenizer_json, tokenizer_config);
  if (!tokenizer.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(tokenizer_path, ": ", tokenizer.status().message()));
  }
  DESCANT_ASSIGN_OR_RETURN(
      std::string chat_template,
      ReadTextIfPresent(PathIn(directory, "chat_template.jinja")));
  if (chat_template.empty()) {
    chat_template = std::string((*tokenizer)->chat_template());
  }
  DESCANT_ASSIGN_OR_RETURN(
      std::string tool_use_template,
      ReadTextIfPresent(
          PathIn(directory, "additional_chat_templates/tool_use.jinja")));
  if (tool_use_template.empty()) {
    tool_use_template = std::string((*tokenizer)->tool_use_template());
  }
  DESCANT_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                           HuggingFaceWeightFiles(directory));
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
