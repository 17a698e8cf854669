#include "runtime/model/export_checkpoint.h"

#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/checkpoint_tensors.h"
#include "runtime/model/gguf_parts.h"
#include "runtime/model/gguf_vocabulary.h"
#include "runtime/model/hf_config.h"
#include "runtime/model/hf_config_writer.h"
#include "runtime/model/hf_files.h"
#include "runtime/model/merged_weight_source.h"
#include "runtime/tokenizer/gguf_tokenizer_json.h"

namespace descant {
namespace {

// What Transformers and other tools read beside the tensors.
constexpr absl::string_view kCopied[] = {
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "tekken.json",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
};
constexpr absl::string_view kTemplates = "additional_chat_templates";

std::optional<Dtype> DtypeOf(ExportDtype dtype) {
  switch (dtype) {
    case ExportDtype::kAuto:
      break;
    case ExportDtype::kFp32:
      return Dtype::kF32;
    case ExportDtype::kBf16:
      return Dtype::kBF16;
    case ExportDtype::kFp16:
      return Dtype::kF16;
  }
  return std::nullopt;
}

std::string TorchName(Dtype dtype) {
  if (dtype == Dtype::kBF16) return "bfloat16";
  return dtype == Dtype::kF16 ? "float16" : "float32";
}

// `json` with another value of torch_dtype, which is dtype since Transformers
// 5; all else as it is.
std::string WithDtype(std::string json, const std::string& dtype) {
  for (const std::string key : {"\"torch_dtype\"", "\"dtype\""}) {
    for (size_t at = json.find(key); at != std::string::npos;
         at = json.find(key, at + 1)) {
      const size_t colon = json.find_first_not_of(" \t\r\n", at + key.size());
      if (colon == std::string::npos || json[colon] != ':') continue;
      const size_t begin = json.find_first_not_of(" \t\r\n", colon + 1);
      if (begin == std::string::npos || json[begin] != '"') continue;
      const size_t end = json.find('"', begin + 1);
      if (end == std::string::npos) continue;
      json.replace(begin + 1, end - begin - 1, dtype);
    }
  }
  return json;
}

absl::Status CopyTemplates(const std::string& directory,
                           std::vector<CheckpointFile>* files) {
  const std::string folder = PathIn(directory, kTemplates);
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  if (error) return absl::OkStatus();  // there are none
  for (const auto& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (!absl::EndsWith(name, ".jinja")) continue;
    DESCANT_ASSIGN_OR_RETURN(std::string text,
                             ReadTextFile(PathIn(folder, name)));
    files->push_back({absl::StrCat(kTemplates, "/", name), std::move(text)});
  }
  return absl::OkStatus();
}

absl::Status FromHuggingFace(const ExportRequest& request,
                             std::shared_ptr<const MergedWeightSource> merged,
                             Checkpoint* checkpoint) {
  const std::string& directory = request.model_path;
  const std::optional<Dtype> dtype = DtypeOf(request.dtype);
  const std::string config_path = PathIn(directory, "config.json");
  DESCANT_ASSIGN_OR_RETURN(std::string json, ReadTextFile(config_path));
  DESCANT_ASSIGN_OR_RETURN(const HuggingFaceConfig config,
                           ParseHuggingFaceConfig(json, config_path));
  if (dtype.has_value()) json = WithDtype(std::move(json), TorchName(*dtype));
  checkpoint->files.push_back({"config.json", std::move(json)});
  for (const absl::string_view name : kCopied) {
    const std::string path = PathIn(directory, name);
    if (!PathExists(path)) continue;
    DESCANT_ASSIGN_OR_RETURN(std::string content, ReadTextFile(path));
    checkpoint->files.push_back({std::string(name), std::move(content)});
  }
  DESCANT_RETURN_IF_ERROR(CopyTemplates(directory, &checkpoint->files));
  DESCANT_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                           HuggingFaceWeightFiles(directory));
  DESCANT_ASSIGN_OR_RETURN(
      checkpoint->tensors,
      HuggingFaceCheckpointTensors(paths, *config.family, request.model->config,
                                   std::move(merged), dtype));
  return absl::OkStatus();
}

absl::Status FromGguf(const ExportRequest& request,
                      std::shared_ptr<const MergedWeightSource> merged,
                      Checkpoint* checkpoint) {
  const Model& model = *request.model;
  const Dtype dtype = DtypeOf(request.dtype).value_or(Dtype::kF32);
  DESCANT_ASSIGN_OR_RETURN(const auto parts,
                           GgufParts::Open(request.model_path));
  DESCANT_ASSIGN_OR_RETURN(
      const GgufVocabulary vocabulary,
      ReadGgufVocabulary(parts->keys(), request.model_path));
  DESCANT_ASSIGN_OR_RETURN(const HuggingFaceFamily* const family,
                           FamilyOfGguf(model.config));
  const ConfigTokens tokens = {vocabulary.bos, vocabulary.pad,
                               model.eos_token_ids};
  DESCANT_ASSIGN_OR_RETURN(
      std::string config,
      WriteHuggingFaceConfig(*family, model.config, tokens, TorchName(dtype)));
  std::vector<CheckpointFile>& files = checkpoint->files;
  files.push_back({"config.json", std::move(config)});
  files.push_back({"generation_config.json", WriteGenerationConfig(tokens)});
  DESCANT_ASSIGN_OR_RETURN(GgufTokenizerJson tokenizer,
                           TokenizerJsonOfGguf(vocabulary));
  files.push_back({"tokenizer.json", std::move(tokenizer.tokenizer)});
  files.push_back({"tokenizer_config.json", std::move(tokenizer.config)});
  if (!vocabulary.chat_template.empty()) {
    files.push_back({"chat_template.jinja", vocabulary.chat_template});
  }
  checkpoint->tensors =
      NewCheckpointTensors(*family, model.config, std::move(merged), dtype);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckpointSummary> ExportMergedCheckpoint(
    Fs* fs, const ExportRequest& request, const CheckpointOptions& options) {
  DESCANT_RETURN_IF_ERROR(CheckCheckpointDirectory(request.directory));
  const Model& model = *request.model;
  auto merged = std::make_shared<const MergedWeightSource>(
      model.config, model.weights.get(), request.adapter);
  Checkpoint checkpoint;
  // Transformers 4 asks for the first.
  checkpoint.metadata = {{"format", "pt"},
                         {"descant_adapter", request.adapter->digest},
                         {"descant_base", model.base_shape.fingerprint}};
  std::error_code error;
  const bool directory =
      std::filesystem::is_directory(request.model_path, error);
  DESCANT_RETURN_IF_ERROR(
      directory ? FromHuggingFace(request, std::move(merged), &checkpoint)
                : FromGguf(request, std::move(merged), &checkpoint));
  return WriteCheckpoint(fs, request.directory, checkpoint, options);
}

}  // namespace descant
