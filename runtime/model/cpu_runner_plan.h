// What a step on the CPU does, worked out from its Batch before the workers
// start: pure bookkeeping, no arithmetic on tensors.
#ifndef DESCANT_RUNTIME_MODEL_CPU_RUNNER_PLAN_H_
#define DESCANT_RUNTIME_MODEL_CPU_RUNNER_PLAN_H_

#include <cstdint>
#include <vector>

#include "runtime/core/batch.h"
#include "runtime/kernels/kernels.h"
#include "runtime/model/adapter_pool.h"

namespace descant {

struct PlanRow {
  int32_t token;
  int32_t position;
  int32_t block;  // physical KV block
};

// Rows [row_begin, row_end) under one adapter. `h` is their shrunk
// activation, row stride h_stride, rewritten at every site.
struct PlanSegment {
  int32_t row_begin;
  int32_t row_end;
  float weight;
  const PackedAdapter* adapter;
  kernels::bf16_t* h;
  int64_t h_stride;
};

// Some consecutive tokens of a sequence; one item per KV head, or per KV head
// and part of the positions.
struct PlanAttention {
  int32_t row_begin;
  int32_t tokens;
  int32_t first_position;
  const int32_t* blocks;
  int32_t parts = 1;        // from position 0 to the last token; 1: not split
  int64_t partial_row = 0;  // in CpuScratch::partials: [head][part][rows]
};

// Rows of one segment; one item per 16 columns of A at a site.
struct PlanShrink {
  int32_t segment;
  int32_t row_begin;
  int32_t row_end;
};

// Rows that one worker takes through a site's LoRA and what follows it.
struct PlanRowItem {
  int32_t row_begin;
  int32_t row_end;
  int32_t segment;  // -1: rows without an adapter
};

struct CpuPlan {
  std::vector<PlanRow> rows;
  std::vector<PlanSegment> segments;
  std::vector<PlanAttention> attention;
  int32_t most_parts = 1;  // of any of them
  std::vector<PlanShrink> shrinks;
  std::vector<PlanRowItem> row_items;  // empty: LoRA goes by columns
  std::vector<int32_t> new_blocks;     // first written in this step
  uint32_t site_mask = 0;              // sites at which any segment has work
  int32_t max_rank = 0;                // of any site of any segment
  std::vector<kernels::bf16_t> h;      // of all segments
};

// What the plan of attention depends on, beside the batch. Splitting never
// changes a bit of a result.
struct AttentionSizes {
  int32_t group;  // query heads per KV head
  int32_t kv_heads;
  int32_t split_items;  // fewer items than this are split into parts
  int64_t split_rows;   // room for partial sums
};

// Room for the largest batch within `limits`, of adapters of the highest rank.
void ReservePlan(const BatchLimits& limits, CpuPlan* plan);

// `last_tokens[state_slot]` stands for kTokenFromLastStep. Without
// `with_adapters` segments are left aside. Allocates only where segments
// overlap so much that they have more rows than the batch.
void FillPlan(const Batch& batch, const std::vector<int32_t>& last_tokens,
              const AdapterPool& adapters, bool with_adapters,
              const AttentionSizes& sizes, CpuPlan* plan);

// Fills plan->row_items, if that pays: a step with many short segments reads
// each adapter's matrices of a site in one go. REQUIRES: FillPlan. A step goes
// by rows from `least_segments` up to `most_rows`. Changes no bit of a result.
void FillRowItems(int32_t least_segments, int32_t most_rows, CpuPlan* plan);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_RUNNER_PLAN_H_
