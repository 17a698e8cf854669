// From q, k and v to what attention makes of them.
#include <algorithm>
#include <cstdint>

#include "runtime/model/cpu_runner_phases.h"

namespace descant {

namespace {

using kernels::bf16_t;

// The physical block that an attention item reads first.
int32_t FirstBlock(const PlanAttention& plan, int32_t window) {
  const int32_t first = window > 0 ? plan.first_position - window + 1 : 0;
  return plan.blocks[std::max(first, 0) / kBlockSize];
}

}  // namespace

void CpuStep::RotateHead(const float* x, const float* norm,
                         const RopeTable& rope, int32_t position, bf16_t* out) {
  const int32_t dim = config_.head_dim;
  if (norm != nullptr) {
    kernels_.head_norm(x, norm, dim, config_.norm_eps, mine_.head);
    x = mine_.head;
  }
  const int64_t at = int64_t{position} * rope.half;
  const int32_t turned = 2 * rope.half;
  if (turned > 0) {
    kernels_.rope(x, rope.cos + at, rope.sin + at, rope.half, out);
  }
  if (turned < dim) kernels_.to_bf16(x + turned, dim - turned, out + turned);
}

void CpuStep::RotateAndStore(int32_t layer) {
  const CpuLayerWeights& weights = state_.weights->layer(layer);
  const RopeTable& rope = state_.rope[layer];
  const int32_t dim = config_.head_dim;
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const PlanRow& plan = plan_.rows[row];
      const float* from = scratch_.qkv + row * shape_.qkv_width;
      bf16_t* q = scratch_.q + row * shape_.q_stride;
      for (int32_t head = 0; head < config_.num_heads; ++head) {
        RotateHead(from + head * dim, weights.query_norm, rope, plan.position,
                   q + head * dim);
      }
      from += shape_.q_width;
      for (int32_t head = 0; head < config_.num_kv_heads; ++head) {
        RotateHead(from + head * dim, weights.key_norm, rope, plan.position,
                   mine_.k);
        kernels_.to_bf16(from + shape_.kv_width + head * dim, dim, mine_.v);
        state_.kv->Write(layer, head, plan.block, plan.position % kBlockSize,
                         mine_.k, mine_.v);
      }
    }
  });
}

void CpuStep::Attend(int32_t layer) {
  const int32_t heads = config_.num_kv_heads;
  const int32_t group = config_.num_heads / heads;
  const int32_t window = WindowOf(config_, layer);
  const float scale = AttentionScale(config_);
  const int32_t items = static_cast<int32_t>(plan_.attention.size()) * heads;
  ForEach(items, [&](int32_t item) {
    const PlanAttention& plan = plan_.attention[item / heads];
    const int32_t head = item % heads;
    const int64_t offset = plan.row_begin * shape_.q_stride +
                           int64_t{head} * group * config_.head_dim;
    kernels::AttentionItem attention;
    attention.q = scratch_.q + offset;
    attention.q_stride = shape_.q_stride;
    attention.tokens = plan.tokens;
    attention.group = group;
    attention.head_dim = config_.head_dim;
    attention.first_position = plan.first_position;
    attention.window = window;
    attention.kv = state_.kv->Head(layer, head);
    attention.block_stride = state_.kv->block_stride();
    attention.v_offset = state_.kv->v_offset();
    attention.padded_dim = state_.kv->padded_dim();
    attention.blocks = plan.blocks;
    attention.next_kv = nullptr;
    if (item + 1 < items) {
      attention.next_kv = state_.kv->Head(layer, (item + 1) % heads);
      attention.next_block =
          FirstBlock(plan_.attention[(item + 1) / heads], window);
    }
    attention.scale = scale;
    attention.score_cap = config_.attention_logit_cap;
    attention.out = scratch_.attended + offset;
    attention.out_stride = shape_.q_stride;
    kernels_.attention(attention, mine_.attention);
  });
}

}  // namespace descant
