// From q, k and v to what attention makes of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/model/cpu_runner_phases.h"

namespace descant {

namespace {

using kernels::bf16_t;

// The first position that an attention item reads.
int32_t FirstSeen(const PlanAttention& plan, int32_t window) {
  return window > 0 ? std::max(plan.first_position - window + 1, 0) : 0;
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
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int64_t row = begin; row < end; ++row) RotateAndStoreRow(layer, row);
  });
}

void CpuStep::RotateAndStoreRow(int32_t layer, int64_t row) {
  const CpuLayerWeights& weights = LayerWeights(layer);
  const RopeTable& rope = state_.rope[layer];
  const int32_t dim = config_.head_dim;
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

kernels::AttentionItem CpuStep::AttentionOf(int32_t layer,
                                            const PlanAttention& plan,
                                            int32_t head) {
  const int32_t group = config_.num_heads / config_.num_kv_heads;
  const int64_t offset = plan.row_begin * shape_.q_stride +
                         int64_t{head} * group * config_.head_dim;
  kernels::AttentionItem item;
  item.q = scratch_.q + offset;
  item.q_stride = shape_.q_stride;
  item.tokens = plan.tokens;
  item.group = group;
  item.head_dim = config_.head_dim;
  item.first_position = plan.first_position;
  item.window = WindowOf(config_, layer);
  item.kv = state_.kv->Head(layer, head);
  item.block_stride = state_.kv->block_stride();
  item.v_offset = state_.kv->v_offset();
  item.padded_dim = state_.kv->padded_dim();
  item.blocks = plan.blocks;
  item.next = nullptr;
  item.next_position = 0;
  item.scale = AttentionScale(config_);
  item.score_cap = config_.attention_logit_cap;
  item.out = scratch_.attended + offset;
  item.out_stride = shape_.q_stride;
  return item;
}

void CpuStep::Attend(int32_t layer) {
  const int32_t window = WindowOf(config_, layer);
  const int32_t heads = config_.num_kv_heads;
  const int32_t parts = plan_.most_parts;
  const int32_t items =
      static_cast<int32_t>(plan_.attention.size()) * heads * parts;
  // The first position that an item reads; negative where there is none.
  const auto first_position = [&](int32_t index) {
    const PlanAttention& plan = plan_.attention[index / parts / heads];
    const int32_t part = index % parts;
    const int32_t seen = FirstSeen(plan, window);
    if (plan.parts == 1) return part == 0 ? seen : -1;
    if (part < seen / kernels::kAttentionPart || part >= plan.parts) return -1;
    return std::max(seen, part * kernels::kAttentionPart);
  };
  const auto item_of = [&](int32_t index) {
    return AttentionOf(layer, plan_.attention[index / parts / heads],
                       index / parts % heads);
  };
  ForEach(items, [&](int32_t index) {
    if (first_position(index) < 0) return;
    kernels::AttentionItem item = item_of(index);
    kernels::AttentionItem next;
    if (index + 1 < items && first_position(index + 1) >= 0) {
      next = item_of(index + 1);
      item.next = &next;
      item.next_position = first_position(index + 1);
    }
    const PlanAttention& plan = plan_.attention[index / parts / heads];
    if (plan.parts == 1) {
      kernels_.attention(item, mine_.attention);
      return;
    }
    const int32_t part = index % parts;
    kernels_.attention_part(item, part, mine_.attention,
                            PartialOf(plan, index / parts % heads, part));
  });
  if (parts > 1) MergeParts(layer);
}

void CpuStep::FetchKv(int32_t layer) {
  // Items in parts are few and long: attention's own fetching is enough.
  if (!FetchesBeside(state_, rows_) || plan_.most_parts > 1) return;
  mine_.later.clear();
  const int32_t window = WindowOf(config_, layer);
  const int32_t heads = config_.num_kv_heads;
  const int64_t stride = state_.kv->block_stride();
  const int64_t bytes = stride / heads * static_cast<int64_t>(sizeof(bf16_t));
  const int32_t items = static_cast<int32_t>(plan_.attention.size()) * heads;
  const int32_t end = FirstOf(items, worker_ + 1);
  int64_t left = std::min<int64_t>(kFetchedKvBytes / bytes, kFetchedKvBlocks);
  for (int32_t i = FirstOf(items, worker_); i < end && left > 0; ++i) {
    const PlanAttention& plan = plan_.attention[i / heads];
    // Rows of one sequence read the same.
    if (i >= heads && (&plan)[-1].blocks == plan.blocks) continue;
    const bf16_t* kv = state_.kv->Head(layer, i % heads);
    const int32_t last = (plan.first_position + plan.tokens - 1) / kBlockSize;
    for (int32_t block = FirstSeen(plan, window) / kBlockSize;
         block <= last && left > 0; ++block) {
      const bf16_t* at = kv + plan.blocks[block] * stride;
      mine_.later.push_back({reinterpret_cast<const std::byte*>(at), bytes});
      --left;
    }
  }
  beside_.later = {mine_.later.data(), mine_.later.data() + mine_.later.size()};
}

float* CpuStep::PartialOf(const PlanAttention& plan, int32_t head,
                          int32_t part) {
  const int64_t rows = int64_t{plan.tokens} * state_.attention_sizes.group;
  const int64_t row =
      plan.partial_row + (int64_t{head} * plan.parts + part) * rows;
  return scratch_.partials +
         row * kernels::AttentionPartialFloats(1, state_.kv->padded_dim());
}

void CpuStep::MergeParts(int32_t layer) {
  const int32_t window = WindowOf(config_, layer);
  const int32_t heads = config_.num_kv_heads;
  ForEach(
      static_cast<int32_t>(plan_.attention.size()) * heads, [&](int32_t index) {
        const PlanAttention& plan = plan_.attention[index / heads];
        if (plan.parts == 1) return;
        const int32_t head = index % heads;
        const int32_t first = FirstSeen(plan, window) / kernels::kAttentionPart;
        kernels_.attention_merge(AttentionOf(layer, plan, head),
                                 plan.parts - first,
                                 PartialOf(plan, head, first));
      });
}

}  // namespace descant
