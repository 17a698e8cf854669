// LoRA of the segments: shrink and expand.
#include <cstdint>

#include "runtime/model/cpu_runner_phases.h"

namespace descant {

using kernels::bf16_t;
using kernels::kRankBlock;

int32_t CpuStep::ShrinkPairs(LoraSite site) const {
  switch (site) {
    case LoraSite::kOut:
      return shape_.q_pairs;
    case LoraSite::kDown:
      return shape_.mlp_pairs;
    case LoraSite::kQkv:
    case LoraSite::kGateUp:
      break;
  }
  return shape_.hidden_pairs;
}

void CpuStep::Shrink(int32_t layer, LoraSite site, const bf16_t* a,
                     int64_t lda) {
  if (!HasLora(site) || ByRows(site)) return;
  const int32_t index = layer * kLoraSites + static_cast<int32_t>(site);
  const int32_t blocks = plan_.max_rank / kRankBlock;
  const int32_t k_pairs = ShrinkPairs(site);
  const int32_t items = static_cast<int32_t>(plan_.shrinks.size()) * blocks;
  ForEach(items, [&](int32_t item) {
    const PlanShrink& shrink = plan_.shrinks[item / blocks];
    const int32_t column = item % blocks * kRankBlock;
    const PlanSegment& segment = plan_.segments[shrink.segment];
    const PackedSite& packed = segment.adapter->sites[index];
    if (column >= packed.rank) return;
    float scale[kRankBlock];
    for (int32_t i = 0; i < kRankBlock; ++i) {
      scale[i] = packed.scale[column + i] * segment.weight;
    }
    lora_.shrink(
        shrink.row_end - shrink.row_begin, k_pairs, a + shrink.row_begin * lda,
        lda, BlockOfA(packed, k_pairs, column), scale,
        segment.h + (shrink.row_begin - segment.row_begin) * segment.h_stride +
            column,
        segment.h_stride);
  });
}

void CpuStep::BeginSite(int32_t layer, LoraSite site) {
  const int32_t site_index = layer * kLoraSites + static_cast<int32_t>(site);
  for (auto& expands : mine_.expands) expands.clear();
  if (plan_.segments.empty()) return;
  const bool last = site_index + 1 == config_.num_layers * kLoraSites;
  if (ByRows(site)) {
    for (const PlanSegment& segment : plan_.segments) {
      if (last) break;
      // What the next site will look up.
      const auto* next = reinterpret_cast<const char*>(
          &segment.adapter->sites[site_index + 1]);
      __builtin_prefetch(next);
      __builtin_prefetch(next + sizeof(PackedSite) - 1);
    }
    if (kernels_.gemm_beside == nullptr) return;
    beside_site_ = site_index;
    beside_item_ = static_cast<int32_t>(int64_t{1} * plan_.row_items.size() *
                                        worker_ / state_.pool->size());
    beside_budget_ = kBesideBytes;
    BesideNext();
    return;
  }
  for (const PlanSegment& segment : plan_.segments) {
    const PackedSite* packed = &segment.adapter->sites[site_index];
    // What the next site will look up.
    if (!last) __builtin_prefetch(packed + 1);
    for (int32_t i = 0; i < kMaxSlices; ++i) {
      const PackedSlice& slice = packed->slices[i];
      if (slice.rank_pairs == 0) continue;
      mine_.expands[i].push_back({segment.h + slice.h_offset, slice.b,
                                  segment.h_stride, slice.rank_pairs,
                                  segment.row_begin, segment.row_end});
    }
  }
}

void CpuStep::Expand(int32_t slice, int32_t block, int32_t begin, int32_t end,
                     float* c, int64_t ldc) {
  const auto& expands = mine_.expands[slice];
  if (expands.empty()) return;
  lora_.expand(expands.data(), static_cast<int32_t>(expands.size()), block,
               begin, end, c, ldc);
}

}  // namespace descant
