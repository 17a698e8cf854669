#include "runtime/model/hf_model.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"
#include "adapters/formats/safetensors.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/file_weights.h"
#include "runtime/model/hf_config.h"
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

struct NamedWeight {
  std::string name;
  WeightKind kind;
  int32_t layer;
};

std::vector<NamedWeight> ExpectedWeights(const ModelConfig& config) {
  std::vector<NamedWeight> weights = {
      {"model.embed_tokens.weight", WeightKind::kEmbedding, 0},
      {"model.norm.weight", WeightKind::kFinalNorm, 0}};
  if (!config.tied_embeddings) {
    weights.push_back({"lm_head.weight", WeightKind::kHead, 0});
  }
  static constexpr struct {
    absl::string_view suffix;
    WeightKind kind;
  } kLayer[] = {
      {"input_layernorm", WeightKind::kAttentionNorm},
      {"self_attn.q_proj", WeightKind::kQuery},
      {"self_attn.k_proj", WeightKind::kKey},
      {"self_attn.v_proj", WeightKind::kValue},
      {"self_attn.o_proj", WeightKind::kAttentionOut},
      {"post_attention_layernorm", WeightKind::kMlpNorm},
      {"mlp.gate_proj", WeightKind::kGate},
      {"mlp.up_proj", WeightKind::kUp},
      {"mlp.down_proj", WeightKind::kDown},
  };
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const auto& entry : kLayer) {
      weights.push_back(
          {absl::StrCat("model.layers.", layer, ".", entry.suffix, ".weight"),
           entry.kind, layer});
    }
  }
  return weights;
}

struct Located {
  const SafetensorsFile* file;
  const SafetensorsTensor* tensor;
  const std::string* path;
};
using LocatedTensors = absl::flat_hash_map<absl::string_view, Located>;

absl::StatusOr<StorageType> StorageOf(Dtype dtype) {
  switch (dtype) {
    case Dtype::kF32:
      return StorageType::kF32;
    case Dtype::kF16:
      return StorageType::kF16;
    case Dtype::kBF16:
      return StorageType::kBF16;
    case Dtype::kOther:
      break;
  }
  return absl::InvalidArgumentError("dtype must be F32, F16 or BF16");
}

absl::Status SetWeight(const ModelConfig& config, const NamedWeight& weight,
                       const Located& located, FileWeights* weights) {
  const SafetensorsTensor& tensor = *located.tensor;
  const auto fail = [&](absl::string_view rule) {
    return absl::InvalidArgumentError(
        absl::StrCat(*located.path, ": tensor ", weight.name, ": ", rule));
  };
  const absl::StatusOr<StorageType> type = StorageOf(tensor.dtype);
  if (!type.ok()) return fail(type.status().message());
  const WeightShape shape = ShapeOf(config, weight.kind);
  std::vector<uint64_t> expected;
  if (shape.rows != 1) expected.push_back(shape.rows);
  expected.push_back(shape.columns);
  if (!std::equal(expected.begin(), expected.end(), tensor.shape.begin(),
                  tensor.shape.end())) {
    return fail(absl::StrCat("shape [", absl::StrJoin(tensor.shape, ", "),
                             "], must be [", absl::StrJoin(expected, ", "),
                             "]"));
  }
  StoredTensor stored;
  stored.type = *type;
  stored.bytes = located.file->Bytes(tensor);
  stored.file = &located.file->file();
  stored.offset = tensor.begin;
  weights->Set(weight.kind, weight.layer, stored);
  return absl::OkStatus();
}

bool MayBeIgnored(const ModelConfig& config, absl::string_view name) {
  return absl::EndsWith(name, "rotary_emb.inv_freq") ||
         (config.tied_embeddings && name == "lm_head.weight");
}

absl::StatusOr<std::shared_ptr<const FileWeights>> OpenWeights(
    const std::string& directory, const ModelConfig& config) {
  DESCANT_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                           WeightFiles(directory));
  auto weights = std::make_shared<FileWeights>(config);
  LocatedTensors located;
  for (const std::string& path : paths) {
    DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const SafetensorsFile> file,
                             SafetensorsFile::Open(path));
    for (const SafetensorsTensor& tensor : file->index().tensors) {
      if (!located.try_emplace(tensor.name, Located{file.get(), &tensor, &path})
               .second) {
        return absl::InvalidArgumentError(absl::StrCat(
            path, ": tensor ", tensor.name, " is also in another shard"));
      }
    }
    weights->Own(std::move(file));
  }
  for (const NamedWeight& weight : ExpectedWeights(config)) {
    const auto found = located.find(weight.name);
    if (found == located.end()) {
      return absl::InvalidArgumentError(
          absl::StrCat(paths.size() == 1 ? paths[0] : directory, ": tensor ",
                       weight.name, " is missing"));
    }
    DESCANT_RETURN_IF_ERROR(
        SetWeight(config, weight, found->second, weights.get()));
    located.erase(found);
  }
  for (const auto& [name, rest] : located) {
    if (!MayBeIgnored(config, name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(*rest.path, ": tensor ", name,
                       " does not belong to LlamaForCausalLM"));
    }
  }
  return weights;
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
  DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const FileWeights> weights,
                           OpenWeights(directory, config.model));
  ModelParts parts;
  parts.path = directory;
  parts.name = NameFromPath(directory);
  parts.config = std::move(config.model);
  parts.weights = std::move(weights);
  parts.tokenizer = *std::move(tokenizer);
  parts.chat_template = std::move(chat_template);
  parts.eos_token_ids = eos.empty() ? std::move(config.eos_token_ids) : eos;
  return AssembleModel(std::move(parts));
}

}  // namespace descant
