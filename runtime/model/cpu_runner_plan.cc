#include "runtime/model/cpu_runner_plan.h"

#include <algorithm>

#include "absl/types/span.h"
#include "adapters/peft_config.h"
#include "runtime/base/check.h"
#include "runtime/kernels/packing.h"

namespace descant {
namespace {

// Rows of an item by rows, at most: what one worker does alone.
constexpr int32_t kItemRows = 8;

// Rows of a shrink item: enough to be worth a stream of A.
constexpr int32_t kShrinkRows = 48;

void FillRows(const Batch& batch, const std::vector<int32_t>& last_tokens,
              CpuPlan* plan) {
  plan->rows.resize(batch.rows());
  plan->new_blocks.clear();
  for (const BatchSequence& sequence : batch.sequences) {
    const int32_t* blocks = &batch.block_tables[sequence.block_begin];
    for (int32_t row = sequence.row_begin; row < sequence.row_end; ++row) {
      const int32_t token = batch.tokens[row];
      const int32_t position = batch.positions[row];
      DESCANT_CHECK(position / kBlockSize < sequence.block_count);
      const int32_t block = blocks[position / kBlockSize];
      plan->rows[row] = {token == kTokenFromLastStep
                             ? last_tokens[sequence.state_slot]
                             : token,
                         position, block};
      if (position % kBlockSize == 0) plan->new_blocks.push_back(block);
    }
  }
}

// A part has its own sums, which are merged in a phase of its own: that pays
// where there would be too few items for all workers.
void SplitAttention(const AttentionSizes& sizes, CpuPlan* plan) {
  plan->most_parts = 1;
  const int64_t items = plan->attention.size() * sizes.kv_heads;
  if (items >= sizes.split_items) return;
  int64_t used = 0;
  for (PlanAttention& attention : plan->attention) {
    const int32_t last = attention.first_position + attention.tokens - 1;
    const int32_t parts = last / kernels::kAttentionPart + 1;
    const int64_t rows =
        int64_t{parts} * sizes.kv_heads * attention.tokens * sizes.group;
    if (parts == 1 || used + rows > sizes.split_rows) continue;
    attention.parts = parts;
    attention.partial_row = used;
    used += rows;
    plan->most_parts = std::max(plan->most_parts, parts);
  }
}

void FillAttention(const Batch& batch, const AttentionSizes& sizes,
                   CpuPlan* plan) {
  const int32_t most = kernels::AttentionRows(sizes.group) / sizes.group;
  plan->attention.clear();
  for (const BatchSequence& sequence : batch.sequences) {
    for (int32_t row = sequence.row_begin; row < sequence.row_end;
         row += most) {
      plan->attention.push_back({row, std::min(most, sequence.row_end - row),
                                 batch.positions[row],
                                 &batch.block_tables[sequence.block_begin]});
    }
  }
  SplitAttention(sizes, plan);
}

void FillSegments(absl::Span<const Segment> segments,
                  const AdapterPool& adapters, CpuPlan* plan) {
  plan->segments.clear();
  plan->shrinks.clear();
  plan->site_mask = 0;
  plan->max_rank = 0;
  int64_t elements = 0;
  for (const Segment& segment : segments) {
    const PackedAdapter* adapter = adapters.Find(segment.slot);
    DESCANT_CHECK(adapter != nullptr);
    if (adapter->site_mask == 0) continue;
    plan->site_mask |= adapter->site_mask;
    plan->max_rank = std::max(plan->max_rank, adapter->max_rank);
    const int32_t index = static_cast<int32_t>(plan->segments.size());
    plan->segments.push_back({segment.row_begin, segment.row_end,
                              segment.weight, adapter, nullptr,
                              adapter->max_rank});
    elements +=
        int64_t{segment.row_end - segment.row_begin} * adapter->max_rank;
    for (int32_t row = segment.row_begin; row < segment.row_end;
         row += kShrinkRows) {
      plan->shrinks.push_back(
          {index, row, std::min(row + kShrinkRows, segment.row_end)});
    }
  }
  if (static_cast<int64_t>(plan->h.size()) < elements) {
    plan->h.resize(elements);
  }
  kernels::bf16_t* h = plan->h.data();
  for (PlanSegment& segment : plan->segments) {
    segment.h = h;
    h += (segment.row_end - segment.row_begin) * segment.h_stride;
  }
}

}  // namespace

void ReservePlan(const BatchLimits& limits, CpuPlan* plan) {
  plan->rows.reserve(limits.max_rows);
  plan->segments.reserve(limits.max_sequences);
  plan->attention.reserve(limits.max_rows);
  plan->shrinks.reserve(limits.max_rows);
  plan->row_items.reserve(limits.max_rows);
  plan->new_blocks.reserve(limits.max_rows);
  // Its pages are touched when they are needed.
  plan->h.reserve(
      limits.max_rows *
      kernels::RoundUp(int64_t{kMaxSlices} * kMaxRank, kernels::kRankBlock));
}

void FillPlan(const Batch& batch, const std::vector<int32_t>& last_tokens,
              const AdapterPool& adapters, bool with_adapters,
              const AttentionSizes& sizes, CpuPlan* plan) {
  FillRows(batch, last_tokens, plan);
  FillAttention(batch, sizes, plan);
  FillSegments(with_adapters ? absl::MakeConstSpan(batch.segments)
                             : absl::Span<const Segment>(),
               adapters, plan);
}

void FillRowItems(int32_t least_segments, int32_t most_rows, CpuPlan* plan) {
  plan->row_items.clear();
  const int32_t rows = static_cast<int32_t>(plan->rows.size());
  const int32_t segments = static_cast<int32_t>(plan->segments.size());
  if (segments < least_segments || rows > most_rows) return;
  int32_t row = 0;
  const auto add_until = [&](int32_t end) {
    for (; row < end; row = std::min(row + kItemRows, end)) {
      plan->row_items.push_back({row, std::min(row + kItemRows, end), -1});
    }
  };
  for (int32_t i = 0; i < segments; ++i) {
    const PlanSegment& segment = plan->segments[i];
    // Rows under several adapters take them one after the other, by columns.
    if (segment.row_begin < row ||
        segment.row_end - segment.row_begin > kItemRows) {
      plan->row_items.clear();
      return;
    }
    add_until(segment.row_begin);
    plan->row_items.push_back({segment.row_begin, segment.row_end, i});
    row = segment.row_end;
  }
  add_until(rows);
}

}  // namespace descant
