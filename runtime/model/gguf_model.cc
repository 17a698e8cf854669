#include "runtime/model/gguf_model.h"

#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "adapters/formats/json.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/file_weights.h"
#include "runtime/model/model_assembly.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant {
namespace {

constexpr absl::string_view kRopeDivisors = "rope_freqs.weight";

// Typed keys; the first violation is kept.
class KeyReader {
 public:
  KeyReader(const GgufIndex& index, const std::string& path)
      : index_(index), path_(path) {}

  // Without `missing` the key is required.
  int32_t Int(absl::string_view key, std::optional<int32_t> missing) {
    if (index_.FindValue(key) == nullptr) return Missing(key, missing);
    const std::optional<int64_t> value = index_.GetInt(key);
    if (value.has_value() && *value >= 0 &&
        *value <= std::numeric_limits<int32_t>::max()) {
      return static_cast<int32_t>(*value);
    }
    Fail(absl::StrCat("key ", key, " must be a 31-bit integer"));
    return 0;
  }
  float Float(absl::string_view key, std::optional<float> missing) {
    if (index_.FindValue(key) == nullptr) return Missing(key, missing);
    const std::optional<double> value = index_.GetFloat(key);
    if (value.has_value()) return static_cast<float>(*value);
    Fail(absl::StrCat("key ", key, " must be a float"));
    return 0;
  }
  bool Bool(absl::string_view key, bool missing) {
    if (index_.FindValue(key) == nullptr) return missing;
    const std::optional<bool> value = index_.GetBool(key);
    if (value.has_value()) return *value;
    Fail(absl::StrCat("key ", key, " must be a bool"));
    return missing;
  }
  std::string String(absl::string_view key, absl::string_view missing) {
    if (index_.FindValue(key) == nullptr) return std::string(missing);
    const std::optional<absl::string_view> value = index_.GetString(key);
    if (value.has_value()) return std::string(*value);
    Fail(absl::StrCat("key ", key, " must be a string"));
    return std::string(missing);
  }

  void Fail(absl::string_view rule) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(path_, ": ", rule));
    }
  }
  const absl::Status& status() const { return status_; }

 private:
  template <typename T>
  T Missing(absl::string_view key, std::optional<T> missing) {
    if (!missing.has_value()) Fail(absl::StrCat("key ", key, " is missing"));
    return missing.value_or(T{});
  }

  const GgufIndex& index_;
  const std::string& path_;
  absl::Status status_;
};

void ReadRope(KeyReader* keys, RopeConfig* rope) {
  rope->theta = keys->Float("llama.rope.freq_base", 10000.0f);
  const float legacy = keys->Float("llama.rope.scale_linear", 1.0f);
  const std::string type = keys->String("llama.rope.scaling.type",
                                        legacy != 1.0f ? "linear" : "none");
  if (type == "linear") {
    rope->scaling = RopeScaling::kLinear;
    rope->factor = keys->Float("llama.rope.scaling.factor", legacy);
  } else if (type != "none") {
    keys->Fail(absl::StrCat("rope scaling ", JsonQuote(type),
                            " is not supported, only \"none\" and "
                            "\"linear\""));
  }
}

StorageType StorageOf(GgufType type) {
  switch (type) {
    case GgufType::kF32:
      return StorageType::kF32;
    case GgufType::kF16:
      return StorageType::kF16;
    case GgufType::kBF16:
      return StorageType::kBF16;
    case GgufType::kQ8_0:
      return StorageType::kQ8_0;
    case GgufType::kQ4_0:
      return StorageType::kQ4_0;
    case GgufType::kQ4_1:
      return StorageType::kQ4_1;
    case GgufType::kQ5_0:
      return StorageType::kQ5_0;
    case GgufType::kQ5_1:
      return StorageType::kQ5_1;
    case GgufType::kIQ4_NL:
      return StorageType::kIQ4_NL;
    case GgufType::kQ2_K:
      return StorageType::kQ2_K;
    case GgufType::kQ3_K:
      return StorageType::kQ3_K;
    case GgufType::kQ4_K:
      return StorageType::kQ4_K;
    case GgufType::kQ5_K:
      return StorageType::kQ5_K;
    case GgufType::kQ6_K:
      return StorageType::kQ6_K;
    case GgufType::kIQ4_XS:
      return StorageType::kIQ4_XS;
  }
  return StorageType::kF32;  // not reached: the parser lets no other type in
}

// Finds tensors by name, checks their shapes, remembers which were used.
class TensorReader {
 public:
  TensorReader(const GgufFile& file, const std::string& path)
      : file_(file), path_(path) {}

  absl::Status Read(const std::string& name, const ModelConfig& config,
                    WeightKind kind, int32_t layer, FileWeights* weights) {
    const GgufTensor* tensor = file_.index().FindTensor(name);
    if (tensor == nullptr) return Fail(name, "is missing");
    used_.insert(tensor->name);
    const WeightShape shape = ShapeOf(config, kind);
    std::vector<uint64_t> expected = {static_cast<uint64_t>(shape.columns)};
    if (shape.rows != 1) expected.push_back(shape.rows);
    if (tensor->dims != expected) {
      return Fail(
          name,
          absl::StrCat("dimensions [", absl::StrJoin(tensor->dims, ", "),
                       "], must be [", absl::StrJoin(expected, ", "), "]"));
    }
    StoredTensor stored;
    stored.type = StorageOf(tensor->type);
    stored.bytes = file_.Bytes(*tensor);
    stored.file = &file_.file();
    stored.offset = tensor->begin;
    if (kind == WeightKind::kQuery) stored.interleaved_heads = config.num_heads;
    if (kind == WeightKind::kKey) {
      stored.interleaved_heads = config.num_kv_heads;
    }
    weights->Set(kind, layer, stored);
    return absl::OkStatus();
  }

  absl::Status CheckAllUsed() const {
    for (const GgufTensor& tensor : file_.index().tensors()) {
      if (tensor.name != kRopeDivisors && !used_.contains(tensor.name)) {
        return Fail(tensor.name, "does not belong to a llama model");
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Fail(absl::string_view name, absl::string_view rule) const {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": tensor ", name, ": ", rule));
  }

  const GgufFile& file_;
  const std::string& path_;
  absl::flat_hash_set<absl::string_view> used_;
};

absl::StatusOr<std::shared_ptr<const FileWeights>> ReadWeights(
    std::shared_ptr<const GgufFile> file, const std::string& path,
    const ModelConfig& config) {
  static constexpr struct {
    absl::string_view name;
    WeightKind kind;
  } kLayer[] = {
      {"attn_norm", WeightKind::kAttentionNorm},
      {"attn_q", WeightKind::kQuery},
      {"attn_k", WeightKind::kKey},
      {"attn_v", WeightKind::kValue},
      {"attn_output", WeightKind::kAttentionOut},
      {"ffn_norm", WeightKind::kMlpNorm},
      {"ffn_gate", WeightKind::kGate},
      {"ffn_up", WeightKind::kUp},
      {"ffn_down", WeightKind::kDown},
  };
  auto weights = std::make_shared<FileWeights>(config);
  TensorReader reader(*file, path);
  DESCANT_RETURN_IF_ERROR(reader.Read(
      "token_embd.weight", config, WeightKind::kEmbedding, 0, weights.get()));
  DESCANT_RETURN_IF_ERROR(reader.Read(
      "output_norm.weight", config, WeightKind::kFinalNorm, 0, weights.get()));
  if (!config.tied_embeddings) {
    DESCANT_RETURN_IF_ERROR(reader.Read("output.weight", config,
                                        WeightKind::kHead, 0, weights.get()));
  }
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    for (const auto& entry : kLayer) {
      DESCANT_RETURN_IF_ERROR(
          reader.Read(absl::StrCat("blk.", layer, ".", entry.name, ".weight"),
                      config, entry.kind, layer, weights.get()));
    }
  }
  DESCANT_RETURN_IF_ERROR(reader.CheckAllUsed());
  weights->Own(std::move(file));
  return weights;
}

absl::Status ReadRopeDivisors(const GgufFile& file, const std::string& path,
                              ModelConfig* config) {
  const GgufTensor* tensor = file.index().FindTensor(kRopeDivisors);
  if (tensor == nullptr) return absl::OkStatus();
  const absl::Span<const char> bytes = file.Bytes(*tensor);
  if (tensor->type != GgufType::kF32 ||
      bytes.size() != sizeof(float) * (config->head_dim / 2)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": tensor ", kRopeDivisors, ": must be F32 [",
                     config->head_dim / 2, "]"));
  }
  config->rope.frequency_divisors.resize(config->head_dim / 2);
  std::memcpy(config->rope.frequency_divisors.data(), bytes.data(),
              bytes.size());
  return absl::OkStatus();
}

absl::StatusOr<GgufVocabulary> ReadVocabulary(const GgufIndex& index,
                                              const std::string& path) {
  const auto tokens = index.GetStringArray("tokenizer.ggml.tokens");
  const auto merges = index.GetStringArray("tokenizer.ggml.merges");
  if (!tokens.has_value() || !merges.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     ": keys tokenizer.ggml.tokens and "
                     "tokenizer.ggml.merges must be string arrays"));
  }
  GgufVocabulary vocabulary;
  for (const absl::string_view token : *tokens) {
    vocabulary.tokens.emplace_back(token);
  }
  for (const absl::string_view merge : *merges) {
    vocabulary.merges.emplace_back(merge);
  }
  if (const auto types = index.GetIntArray("tokenizer.ggml.token_type");
      types.has_value()) {
    vocabulary.token_types.assign(types->begin(), types->end());
  }
  KeyReader keys(index, path);
  vocabulary.model = keys.String("tokenizer.ggml.model", "");
  vocabulary.pre = keys.String("tokenizer.ggml.pre", "");
  vocabulary.bos = keys.Int("tokenizer.ggml.bos_token_id", -1);
  vocabulary.eos = keys.Int("tokenizer.ggml.eos_token_id", -1);
  vocabulary.pad = keys.Int("tokenizer.ggml.padding_token_id", -1);
  vocabulary.unk = keys.Int("tokenizer.ggml.unknown_token_id", -1);
  vocabulary.add_bos = keys.Bool("tokenizer.ggml.add_bos_token", false);
  vocabulary.add_eos = keys.Bool("tokenizer.ggml.add_eos_token", false);
  vocabulary.chat_template = keys.String("tokenizer.chat_template", "");
  DESCANT_RETURN_IF_ERROR(keys.status());
  return vocabulary;
}

}  // namespace

absl::StatusOr<ModelConfig> ReadGgufConfig(const GgufIndex& index,
                                           const std::string& path) {
  KeyReader keys(index, path);
  const std::string architecture = keys.String("general.architecture", "");
  if (architecture != "llama") {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": unknown architecture ", JsonQuote(architecture),
                     "; this server computes \"llama\""));
  }
  ModelConfig config;
  config.architecture = architecture;
  config.num_layers = keys.Int("llama.block_count", {});
  config.hidden_size = keys.Int("llama.embedding_length", {});
  config.intermediate_size = keys.Int("llama.feed_forward_length", {});
  config.num_heads = keys.Int("llama.attention.head_count", {});
  config.num_kv_heads =
      keys.Int("llama.attention.head_count_kv", config.num_heads);
  config.max_position = keys.Int("llama.context_length", {});
  config.norm_eps =
      keys.Float("llama.attention.layer_norm_rms_epsilon", {});
  const int32_t usual_head =
      config.num_heads > 0 ? config.hidden_size / config.num_heads : 0;
  config.head_dim = keys.Int("llama.attention.key_length", usual_head);
  if (keys.Int("llama.attention.value_length", config.head_dim) !=
          config.head_dim ||
      keys.Int("llama.rope.dimension_count", config.head_dim) !=
          config.head_dim) {
    keys.Fail("key, value and rope sizes of a head must be equal");
  }
  if (keys.Int("llama.expert_count", 0) != 0) {
    keys.Fail("llama.expert_count: experts are not supported");
  }
  if (!keys.Bool("llama.attention.causal", true)) {
    keys.Fail("llama.attention.causal: only causal attention is supported");
  }
  ReadRope(&keys, &config.rope);
  const GgufTensor* embedding = index.FindTensor("token_embd.weight");
  if (embedding == nullptr || embedding->dims.size() != 2 ||
      embedding->dims[1] > std::numeric_limits<int32_t>::max()) {
    keys.Fail("tensor token_embd.weight: must be a matrix");
  } else {
    config.vocab_size = static_cast<int32_t>(embedding->dims[1]);
    if (keys.Int("llama.vocab_size", config.vocab_size) != config.vocab_size) {
      keys.Fail(absl::StrCat("llama.vocab_size differs from the ",
                             config.vocab_size, " rows of token_embd.weight"));
    }
  }
  config.tied_embeddings = index.FindTensor("output.weight") == nullptr;
  DESCANT_RETURN_IF_ERROR(keys.status());
  if (const absl::Status status = ValidateModelConfig(config); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", status.message()));
  }
  return config;
}

absl::StatusOr<LoadedModel> LoadGgufModel(const std::string& path) {
  DESCANT_ASSIGN_OR_RETURN(std::shared_ptr<const GgufFile> file,
                           GgufFile::Open(path));
  const GgufIndex& index = file->index();
  DESCANT_ASSIGN_OR_RETURN(ModelConfig config, ReadGgufConfig(index, path));
  DESCANT_RETURN_IF_ERROR(ReadRopeDivisors(*file, path, &config));
  if (const absl::Status status = ValidateModelConfig(config); !status.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", status.message()));
  }
  DESCANT_ASSIGN_OR_RETURN(GgufVocabulary vocabulary,
                           ReadVocabulary(index, path));
  std::string chat_template = vocabulary.chat_template;
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer =
      Tokenizer::FromGguf(std::move(vocabulary));
  if (!tokenizer.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", tokenizer.status().message()));
  }
  ModelParts parts;
  parts.path = path;
  parts.name = NameFromPath(path);
  for (const absl::string_view key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (const std::optional<int64_t> id = index.GetInt(key); id.has_value()) {
      parts.eos_token_ids.push_back(static_cast<int32_t>(*id));
    }
  }
  DESCANT_ASSIGN_OR_RETURN(parts.weights,
                           ReadWeights(std::move(file), path, config));
  parts.config = std::move(config);
  parts.tokenizer = *std::move(tokenizer);
  parts.chat_template = std::move(chat_template);
  return AssembleModel(std::move(parts));
}

}  // namespace descant
