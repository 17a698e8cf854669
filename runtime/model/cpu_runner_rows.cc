// LoRA by rows, for steps of many short segments whose products fetch nothing
// beside their weights. By columns such a step reads each adapter's B a
// kilobyte at a time, in turns with those of all others, and memory delivers
// half of what it could. Here a worker reads all matrices of an adapter at a
// site, which lie one behind the other, for the segment's rows and then
// finishes these rows. Every sum takes its terms in the same order as by
// columns.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/model/cpu_runner_phases.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::kColumnBlock;
using kernels::kRankBlock;

// How far ahead an adapter's matrices are fetched, in bytes.
constexpr int64_t kAhead = 4096;
constexpr int64_t kLine = 64;

void Fetch(const std::byte* from, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(from + at);
}

}  // namespace

void CpuStep::LoraOfItem(const PlanSegment& segment, const PackedSite& packed,
                         int32_t k_pairs, const bf16_t* a, int64_t lda,
                         float* c, int64_t ldc, const int32_t* columns,
                         const int32_t* widths, const std::byte* next) {
  const int32_t rows = segment.row_end - segment.row_begin;
  for (int32_t column = 0; column < packed.rank; column += kRankBlock) {
    float scale[kRankBlock];
    for (int32_t i = 0; i < kRankBlock; ++i) {
      scale[i] = packed.scale[column + i] * segment.weight;
    }
    lora_.shrink(rows, k_pairs, a, lda, BlockOfA(packed, k_pairs, column),
                 scale, segment.h + column, segment.h_stride);
  }
  int32_t last = kMaxSlices;
  while (last > 0 && packed.slices[last - 1].rank_pairs == 0) --last;
  for (int32_t i = 0; i < last; ++i) {
    const PackedSlice& slice = packed.slices[i];
    if (slice.rank_pairs == 0) continue;
    const int64_t block_bytes = int64_t{slice.rank_pairs} * 2 * kColumnBlock *
                                AdapterWeightBytes(state_.lora_type);
    const int64_t blocks = widths[i] / kColumnBlock;
    // What follows the last block is the next item's.
    const int64_t left = i + 1 == last ? blocks * block_bytes : INT64_MAX;
    const kernels::ExpandSegment expand = {
        segment.h + slice.h_offset, slice.b, segment.h_stride,
        slice.rank_pairs,           0,       rows};
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t ahead = block * block_bytes + kAhead;
      if (ahead < left) {
        Fetch(slice.b + ahead, block_bytes);
      } else if (next != nullptr) {
        Fetch(next + (ahead - left), block_bytes);
      }
      lora_.expand(&expand, 1, block, 0, rows,
                   c + columns[i] + block * kColumnBlock, ldc);
    }
  }
}

template <typename Finish>
void CpuStep::ForLoraRows(int32_t layer, LoraSite site, const bf16_t* a,
                          int64_t lda, float* c, int64_t ldc,
                          const int32_t* columns, const int32_t* widths,
                          const Finish& finish) {
  const int32_t index = layer * kLoraSites + static_cast<int32_t>(site);
  const int32_t k_pairs = ShrinkPairs(site);
  const int32_t items = static_cast<int32_t>(plan_.row_items.size());
  const auto packed_of = [&](int32_t item) -> const PackedSite* {
    if (item >= items) return nullptr;
    const int32_t segment = plan_.row_items[item].segment;
    if (segment < 0) return nullptr;
    return &plan_.segments[segment].adapter->sites[index];
  };
  ForEach(items, [&](int32_t index_of_item) {
    const PlanRowItem& item = plan_.row_items[index_of_item];
    const PackedSite* packed = packed_of(index_of_item);
    if (packed != nullptr && packed->rank > 0) {
      const PackedSite* next = packed_of(index_of_item + 1);
      LoraOfItem(plan_.segments[item.segment], *packed, k_pairs,
                 a + item.row_begin * lda, lda, c + item.row_begin * ldc, ldc,
                 columns, widths,
                 next != nullptr && next->rank > 0 ? next->a : nullptr);
    }
    for (int64_t row = item.row_begin; row < item.row_end; ++row) finish(row);
  });
}

void CpuStep::QkvRows(int32_t layer) {
  const int32_t columns[] = {0, shape_.q_width,
                             shape_.q_width + shape_.kv_width};
  const int32_t widths[] = {shape_.q_width, shape_.kv_width, shape_.kv_width};
  ForLoraRows(layer, LoraSite::kQkv, scratch_.normed, shape_.hidden_stride,
              scratch_.qkv, shape_.qkv_width, columns, widths,
              [&](int64_t row) { RotateAndStoreRow(layer, row); });
}

void CpuStep::AddRows(int32_t layer, LoraSite site, const Product& product,
                      const float* post_norm) {
  const int32_t columns[kMaxSlices] = {};
  const int32_t widths[kMaxSlices] = {shape_.hidden_width};
  const bool out = site == LoraSite::kOut;
  const bool last = !out && layer + 1 == config_.num_layers;
  ForLoraRows(
      layer, site, product.a, product.lda, scratch_.sums, scratch_.sums_stride,
      columns, widths, [&](int64_t row) {
        const float* c = scratch_.sums + row * scratch_.sums_stride;
        float* x = scratch_.x + row * shape_.hidden_width;
        if (post_norm != nullptr) {
          kernels_.add_rms_norm(c, post_norm, shape_.hidden,
                                shape_.hidden_width, config_.norm_eps, x);
        } else {
          // A row is its blocks of columns one below the other.
          kernels_.residual_add(shape_.hidden_width / kColumnBlock, c, x,
                                kColumnBlock);
        }
        if (last) return;
        const CpuLayerWeights& next = LayerWeights(out ? layer : layer + 1);
        NormRow(out ? next.mlp_norm : next.attention_norm,
                out ? LoraSite::kGateUp : LoraSite::kQkv, row);
      });
}

void CpuStep::MlpRows(int32_t layer) {
  const bool gelu = config_.activation == Activation::kGeluTanh;
  const bool gate = shape_.mlp_slices == 2;
  const int32_t width = shape_.mlp_width;
  // Up is the site's last slice, with a gate before it or not.
  const int32_t columns[] = {0, gate ? width : 0, 0};
  const int32_t widths[] = {width, width, 0};
  ForLoraRows(
      layer, LoraSite::kGateUp, scratch_.normed, shape_.hidden_stride,
      scratch_.sums, scratch_.sums_stride, columns, widths, [&](int64_t row) {
        const float* c = scratch_.sums + row * scratch_.sums_stride;
        bf16_t* out = scratch_.activated + row * shape_.mlp_stride;
        const int32_t blocks = width / kColumnBlock;
        if (gate) {
          (gelu ? kernels_.gelu_mul : kernels_.silu_mul)(blocks, c, c + width,
                                                         out, kColumnBlock);
        } else {
          (gelu ? kernels_.gelu : kernels_.silu)(blocks, c, out, kColumnBlock);
        }
      });
}

}  // namespace descant
