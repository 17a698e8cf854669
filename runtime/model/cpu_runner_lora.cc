// LoRA of the segments: shrink and expand.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/model/cpu_runner_phases.h"

namespace descant {

using kernels::bf16_t;
using kernels::kColumnBlock;
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
  const int32_t index = layer * kLoraSites + static_cast<int32_t>(site);
  for (auto& expands : mine_.expands) expands.clear();
  beside_ = {};
  if (plan_.segments.empty()) return;
  const bool last = index + 1 == config_.num_layers * kLoraSites;
  const bool by_rows = ByRows(site);
  for (const PlanSegment& segment : plan_.segments) {
    const PackedSite* packed = &segment.adapter->sites[index];
    // What the next site will look up.
    if (!last) {
      const auto* next = reinterpret_cast<const char*>(packed + 1);
      __builtin_prefetch(next);
      __builtin_prefetch(next + sizeof(PackedSite) - 1);
    }
    if (by_rows) continue;
    for (int32_t i = 0; i < kMaxSlices; ++i) {
      const PackedSlice& slice = packed->slices[i];
      if (slice.rank_pairs == 0) continue;
      mine_.expands[i].push_back({segment.h + slice.h_offset, slice.b,
                                  segment.h_stride, slice.rank_pairs,
                                  segment.row_begin, segment.row_end});
    }
  }
  // Attention comes between q, k and v and the next site: FetchKv.
  if (last || site == LoraSite::kQkv || !FetchesBeside(state_, rows_)) return;
  FetchLater(index + 1);
}

void CpuStep::AddBlocks(int32_t index, int32_t item,
                        std::vector<kernels::FetchRange>* ranges) const {
  int32_t slice = 0, slices = 1, block = item;
  switch (static_cast<LoraSite>(index % kLoraSites)) {
    case LoraSite::kQkv:
      slice = QkvSlice(item);
      block = item - QkvFirst(slice);
      break;
    case LoraSite::kGateUp:
      slices = shape_.mlp_slices;
      slice = 2 - slices;
      break;
    case LoraSite::kOut:
    case LoraSite::kDown:
      break;
  }
  for (const PlanSegment& segment : plan_.segments) {
    const PackedSite& packed = segment.adapter->sites[index];
    for (int32_t i = slice; i < slice + slices; ++i) {
      const int64_t bytes = int64_t{packed.slices[i].rank_pairs} * 2 *
                            kColumnBlock * AdapterWeightBytes(state_.lora_type);
      if (bytes == 0) continue;
      ranges->push_back({packed.slices[i].b + block * bytes, bytes});
    }
  }
}

void CpuStep::FetchLater(int32_t index) {
  const auto site = static_cast<LoraSite>(index % kLoraSites);
  mine_.later.clear();
  if (!HasLora(site)) return;
  const int32_t k_pairs = ShrinkPairs(site);
  const int32_t shrinks = static_cast<int32_t>(plan_.shrinks.size());
  const int32_t end = FirstOf(shrinks, worker_ + 1);
  for (int32_t i = FirstOf(shrinks, worker_); i < end; ++i) {
    const PackedSite& packed =
        plan_.segments[plan_.shrinks[i].segment].adapter->sites[index];
    const std::byte* a_end = BlockOfA(packed, k_pairs, packed.rank);
    if (packed.rank > 0) mine_.later.push_back({packed.a, a_end - packed.a});
  }
  int32_t columns = shape_.hidden_width;
  if (site == LoraSite::kQkv) columns = shape_.qkv_width;
  if (site == LoraSite::kGateUp) columns = shape_.mlp_width;
  AddBlocks(index, FirstOf(columns / kColumnBlock, worker_), &mine_.later);
  beside_.later = {mine_.later.data(), mine_.later.data() + mine_.later.size()};
}

void CpuStep::FetchSoon(int32_t layer, LoraSite site, int32_t item) {
  if (!last_chunk_ || last_block_ || !FetchesBeside(state_, rows_)) return;
  mine_.soon.clear();
  AddBlocks(layer * kLoraSites + static_cast<int32_t>(site), item, &mine_.soon);
  beside_.soon = {mine_.soon.data(), mine_.soon.data() + mine_.soon.size()};
}

void CpuStep::Expand(int32_t slice, int32_t block, int32_t begin, int32_t end,
                     float* c, int64_t ldc) {
  const auto& expands = mine_.expands[slice];
  if (expands.empty()) return;
  lora_.expand(expands.data(), static_cast<int32_t>(expands.size()), block,
               begin, end, c, ldc);
}

}  // namespace descant
