#include "runtime/model/weight_source.h"

namespace descant {

bool HasWeight(const ModelConfig& config, WeightKind kind) {
  switch (kind) {
    case WeightKind::kAttentionNormBias:
    case WeightKind::kMlpNormBias:
    case WeightKind::kFinalNormBias:
      return config.norm == NormKind::kLayer;
    case WeightKind::kQueryBias:
    case WeightKind::kKeyBias:
    case WeightKind::kValueBias:
      return config.qkv_bias;
    case WeightKind::kQueryNorm:
    case WeightKind::kKeyNorm:
      return config.qk_norm;
    case WeightKind::kAttentionOutBias:
      return config.out_bias;
    case WeightKind::kAttentionPostNorm:
    case WeightKind::kMlpPostNorm:
      return config.post_norms;
    case WeightKind::kGate:
      return config.gated_mlp;
    case WeightKind::kGateBias:
      return config.gated_mlp && config.mlp_bias;
    case WeightKind::kUpBias:
    case WeightKind::kDownBias:
      return config.mlp_bias;
    case WeightKind::kPositionEmbedding:
      return config.position == PositionKind::kLearned;
    default:
      return true;
  }
}

WeightShape ShapeOf(const ModelConfig& config, WeightKind kind) {
  const int64_t hidden = config.hidden_size;
  const int64_t intermediate = config.intermediate_size;
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t key = int64_t{config.num_kv_heads} * config.head_dim;
  switch (kind) {
    case WeightKind::kAttentionNorm:
    case WeightKind::kAttentionNormBias:
    case WeightKind::kAttentionOutBias:
    case WeightKind::kAttentionPostNorm:
    case WeightKind::kMlpNorm:
    case WeightKind::kMlpNormBias:
    case WeightKind::kDownBias:
    case WeightKind::kMlpPostNorm:
    case WeightKind::kFinalNorm:
    case WeightKind::kFinalNormBias:
      return {1, hidden};
    case WeightKind::kQuery:
      return {query, hidden};
    case WeightKind::kQueryBias:
      return {1, query};
    case WeightKind::kKey:
    case WeightKind::kValue:
      return {key, hidden};
    case WeightKind::kKeyBias:
    case WeightKind::kValueBias:
      return {1, key};
    case WeightKind::kQueryNorm:
    case WeightKind::kKeyNorm:
      return {1, config.head_dim};
    case WeightKind::kAttentionOut:
      return {hidden, query};
    case WeightKind::kGate:
    case WeightKind::kUp:
      return {intermediate, hidden};
    case WeightKind::kGateBias:
    case WeightKind::kUpBias:
      return {1, intermediate};
    case WeightKind::kDown:
      return {hidden, intermediate};
    case WeightKind::kEmbedding:
    case WeightKind::kHead:
      return {config.vocab_size, hidden};
    case WeightKind::kPositionEmbedding:
      return {config.max_position, hidden};
  }
  return {};
}

absl::Status WeightSource::ReadStored(WeightKind /*kind*/, int32_t /*layer*/,
                                      int64_t /*row_begin*/,
                                      absl::Span<char> /*out*/) const {
  return absl::UnimplementedError("these weights have no stored form");
}

}  // namespace descant
