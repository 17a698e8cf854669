#include "runtime/model/gguf_tensors.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/dequantize.h"
#include "runtime/model/gguf_config.h"
#include "runtime/model/weight_source.h"

namespace descant {
namespace {

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

// Those of a layer without "blk.<layer>.".
absl::string_view NameOf(WeightKind kind) {
  switch (kind) {
    case WeightKind::kAttentionNorm:
      return "attn_norm.weight";
    case WeightKind::kAttentionNormBias:
      return "attn_norm.bias";
    case WeightKind::kQuery:
      return "attn_q.weight";
    case WeightKind::kQueryBias:
      return "attn_q.bias";
    case WeightKind::kKey:
      return "attn_k.weight";
    case WeightKind::kKeyBias:
      return "attn_k.bias";
    case WeightKind::kValue:
      return "attn_v.weight";
    case WeightKind::kValueBias:
      return "attn_v.bias";
    case WeightKind::kQueryNorm:
      return "attn_q_norm.weight";
    case WeightKind::kKeyNorm:
      return "attn_k_norm.weight";
    case WeightKind::kAttentionOut:
      return "attn_output.weight";
    case WeightKind::kAttentionOutBias:
      return "attn_output.bias";
    case WeightKind::kAttentionPostNorm:
      return "post_attention_norm.weight";
    case WeightKind::kMlpNorm:
      return "ffn_norm.weight";
    case WeightKind::kMlpNormBias:
      return "ffn_norm.bias";
    case WeightKind::kGate:
      return "ffn_gate.weight";
    case WeightKind::kGateBias:
      return "ffn_gate.bias";
    case WeightKind::kUp:
      return "ffn_up.weight";
    case WeightKind::kUpBias:
      return "ffn_up.bias";
    case WeightKind::kDown:
      return "ffn_down.weight";
    case WeightKind::kDownBias:
      return "ffn_down.bias";
    case WeightKind::kMlpPostNorm:
      return "post_ffw_norm.weight";
    case WeightKind::kEmbedding:
      return "token_embd.weight";
    case WeightKind::kPositionEmbedding:
      return "position_embd.weight";
    case WeightKind::kFinalNorm:
      return "output_norm.weight";
    case WeightKind::kFinalNormBias:
      return "output_norm.bias";
    case WeightKind::kHead:
      return "output.weight";
  }
  return "";
}

// The stored rows (elements of a vector) of one kind.
struct Place {
  std::string name;
  int64_t first = 0;
  int64_t total = 0;  // that the tensor of this name must have
};

// Finds tensors by name, checks their shapes, remembers which were used.
class TensorReader {
 public:
  TensorReader(const GgufParts& parts, const ModelConfig& config,
               FileWeights* weights)
      : parts_(parts), config_(config), weights_(weights) {}

  absl::Status ReadAll() {
    for (int32_t i = 0; i < kWeightKinds; ++i) {
      const WeightKind kind = static_cast<WeightKind>(i);
      if (!HasWeight(config_, kind)) continue;
      if (kind == WeightKind::kHead && config_.tied_embeddings) continue;
      const bool of_layer = i < kLayerWeightKinds;
      for (int32_t layer = 0; layer < (of_layer ? config_.num_layers : 1);
           ++layer) {
        DESCANT_RETURN_IF_ERROR(Read(
            kind, layer, of_layer ? absl::StrCat("blk.", layer, ".") : ""));
      }
    }
    return CheckAllUsed();
  }

 private:
  absl::Status Fail(absl::string_view name, absl::string_view rule) const {
    return absl::InvalidArgumentError(
        absl::StrCat(parts_.path(), ": tensor ", name, ": ", rule));
  }

  // q, k and v one after the other.
  Place InFusedAttention(WeightKind kind, std::string name) const {
    const int64_t query = int64_t{config_.num_heads} * config_.head_dim;
    const int64_t key = int64_t{config_.num_kv_heads} * config_.head_dim;
    int64_t first = 0;
    if (kind == WeightKind::kKey || kind == WeightKind::kKeyBias) first = query;
    if (kind == WeightKind::kValue || kind == WeightKind::kValueBias) {
      first = query + key;
    }
    return {std::move(name), first, query + 2 * key};
  }

  // The tensor of its own name, or its place in a fused one.
  Place Locate(WeightKind kind, const std::string& prefix) const {
    const WeightShape shape = ShapeOf(config_, kind);
    const int64_t size = shape.rows == 1 ? shape.columns : shape.rows;
    std::string name = absl::StrCat(prefix, NameOf(kind));
    const std::string gate = absl::StrCat(prefix, NameOf(WeightKind::kGate));
    if (config_.naming == ModuleNaming::kPhi3 && !parts_.Has(gate)) {
      const std::string up = absl::StrCat(prefix, NameOf(WeightKind::kUp));
      if (kind == WeightKind::kGate) return {up, 0, 2 * size};
      if (kind == WeightKind::kUp) return {up, size, 2 * size};
    }
    switch (kind) {
      case WeightKind::kQuery:
      case WeightKind::kKey:
      case WeightKind::kValue: {
        std::string fused = absl::StrCat(prefix, "attn_qkv.weight");
        if (!parts_.Has(fused)) break;
        return InFusedAttention(kind, std::move(fused));
      }
      case WeightKind::kQueryBias:
      case WeightKind::kKeyBias:
      case WeightKind::kValueBias: {
        std::string fused = absl::StrCat(prefix, "attn_qkv.bias");
        if (!parts_.Has(fused)) break;
        return InFusedAttention(kind, std::move(fused));
      }
      default:
        break;
    }
    return {std::move(name), 0, size};
  }

  int32_t InterleavedHeads(WeightKind kind) const {
    if (config_.architecture != "llama") return 0;
    switch (kind) {
      case WeightKind::kQuery:
      case WeightKind::kQueryBias:
        return config_.num_heads;
      case WeightKind::kKey:
      case WeightKind::kKeyBias:
        return config_.num_kv_heads;
      default:
        return 0;
    }
  }

  absl::Status Read(WeightKind kind, int32_t layer, const std::string& prefix) {
    const Place place = Locate(kind, prefix);
    const GgufParts::Found found = parts_.Find(place.name);
    if (found.tensor == nullptr) return Fail(place.name, "is missing");
    used_.insert(found.tensor->name);
    const WeightShape shape = ShapeOf(config_, kind);
    const bool is_vector = shape.rows == 1;
    std::vector<uint64_t> expected;
    if (!is_vector) expected.push_back(shape.columns);
    expected.push_back(place.total);
    if (found.tensor->dims != expected) {
      return Fail(
          place.name,
          absl::StrCat("dimensions [", absl::StrJoin(found.tensor->dims, ", "),
                       "], must be [", absl::StrJoin(expected, ", "), "]"));
    }
    StoredTensor stored;
    stored.type = StorageOf(found.tensor->type);
    const StorageTraits& traits = TraitsOf(stored.type);
    if (is_vector && traits.block_elements != 1) {
      return Fail(place.name, "a vector must be F32, F16 or BF16");
    }
    const int64_t row_bytes =
        is_vector ? traits.block_bytes
                  : shape.columns / traits.block_elements * traits.block_bytes;
    const int64_t rows = is_vector ? shape.columns : shape.rows;
    stored.interleaved_heads = InterleavedHeads(kind);
    stored.bytes = found.file->Bytes(*found.tensor)
                       .subspan(place.first * row_bytes, rows * row_bytes);
    stored.file = &found.file->file();
    stored.offset = found.tensor->begin + place.first * row_bytes;
    weights_->Set(kind, layer, stored);
    return absl::OkStatus();
  }

  absl::Status CheckAllUsed() const {
    for (const auto& file : parts_.files()) {
      for (const GgufTensor& tensor : file->index().tensors()) {
        if (tensor.name == kRopeDivisors || tensor.name == kRopeShort ||
            tensor.name == kRopeLong || used_.contains(tensor.name)) {
          continue;
        }
        return Fail(tensor.name, absl::StrCat("does not belong to a ",
                                              config_.architecture, " model"));
      }
    }
    return absl::OkStatus();
  }

  const GgufParts& parts_;
  const ModelConfig& config_;
  FileWeights* const weights_;
  absl::flat_hash_set<absl::string_view> used_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const FileWeights>> ReadGgufWeights(
    std::shared_ptr<const GgufParts> parts, const ModelConfig& config) {
  auto weights = std::make_shared<FileWeights>(config);
  DESCANT_RETURN_IF_ERROR(
      TensorReader(*parts, config, weights.get()).ReadAll());
  weights->Own(std::move(parts));
  return weights;
}

}  // namespace descant
