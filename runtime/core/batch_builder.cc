#include "runtime/core/batch_builder.h"

#include <algorithm>

namespace descant {
namespace {

void AppendRows(const ScheduledRows& part, Batch* batch) {
  const Sequence& sequence = *part.sequence;
  const int32_t known = static_cast<int32_t>(sequence.tokens.size());
  for (int32_t i = part.begin; i < part.begin + part.rows; ++i) {
    batch->tokens.push_back(i < known ? sequence.tokens[i]
                                      : kTokenFromLastStep);
    batch->positions.push_back(i);
  }
}

// Extends the last segment where it has the same slot and ends at `begin`.
void AppendSegment(int32_t slot, int32_t begin, int32_t end,
                   std::vector<Segment>* segments) {
  if (slot == kNoSlot || begin == end) return;
  if (!segments->empty() && segments->back().slot == slot &&
      segments->back().row_end == begin) {
    segments->back().row_end = end;
    return;
  }
  segments->push_back({begin, end, slot, 1.0f});
}

}  // namespace

void ReserveBatch(const BatchLimits& limits, Batch* batch) {
  batch->tokens.reserve(limits.max_rows);
  batch->positions.reserve(limits.max_rows);
  batch->sequences.reserve(limits.max_sequences);
  batch->block_tables.reserve(static_cast<size_t>(limits.max_sequences) *
                              limits.max_blocks_per_sequence);
  batch->output_rows.reserve(limits.max_outputs);
  batch->segments.reserve(limits.max_sequences);
  batch->output_segments.reserve(limits.max_sequences);
}

void BuildBatch(uint64_t step, std::vector<ScheduledRows>* scheduled,
                Batch* batch) {
  std::sort(scheduled->begin(), scheduled->end(),
            [](const ScheduledRows& a, const ScheduledRows& b) {
              const int32_t slot_a = a.sequence->slot();
              const int32_t slot_b = b.sequence->slot();
              if (slot_a != slot_b) return slot_a < slot_b;
              return a.sequence->state_slot < b.sequence->state_slot;
            });
  batch->Clear();
  batch->step = step;
  for (const ScheduledRows& part : *scheduled) {
    const Sequence& sequence = *part.sequence;
    BatchSequence& out = batch->sequences.emplace_back();
    out.id = sequence.request.id;
    out.state_slot = sequence.state_slot;
    out.slot = sequence.slot();
    out.row_begin = batch->rows();
    AppendRows(part, batch);
    out.row_end = batch->rows();
    out.computed_length = part.begin;
    out.block_begin = static_cast<int32_t>(batch->block_tables.size());
    out.block_count = BlocksFor(part.begin + part.rows);
    for (int32_t i = 0; i < out.block_count; ++i) {
      batch->block_tables.push_back(sequence.blocks[i].id());
    }
    out.output_begin = batch->outputs();
    if (part.output) {
      out.output = OutputKind::kTokens;
      batch->output_rows.push_back(out.row_end - 1);
    }
    out.output_end = batch->outputs();
    out.generated = part.generated;
    out.sampling = &sequence.request.sampling;
    AppendSegment(out.slot, out.row_begin, out.row_end, &batch->segments);
    AppendSegment(out.slot, out.output_begin, out.output_end,
                  &batch->output_segments);
  }
}

}  // namespace descant
