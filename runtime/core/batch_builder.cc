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
  for (int32_t i = 0; i < part.drafts; ++i) {
    batch->tokens.push_back(sequence.speculation->guesses[i]);
    batch->positions.push_back(part.begin + part.rows + i);
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
    out.id = sequence.id;
    out.choice = sequence.choice;
    out.state_slot = sequence.state_slot;
    out.slot = sequence.slot();
    out.row_begin = batch->rows();
    AppendRows(part, batch);
    out.row_end = batch->rows();
    out.computed_length = part.begin;
    out.block_begin = static_cast<int32_t>(batch->block_tables.size());
    out.block_count = BlocksFor(part.begin + part.rows + part.drafts);
    for (int32_t i = 0; i < out.block_count; ++i) {
      batch->block_tables.push_back(sequence.blocks[i].id());
    }
    out.output_begin = batch->outputs();
    const int32_t outputs = part.scored + (part.output ? 1 + part.drafts : 0);
    if (outputs > 0) out.output = OutputKind::kTokens;
    for (int32_t i = outputs; i > 0; --i) {
      batch->output_rows.push_back(out.row_end - i);
    }
    out.output_end = batch->outputs();
    out.prompt_outputs = part.scored;
    out.generated = part.generated;
    out.sampling = &sequence.group->request.sampling;
    out.history = sequence.tokens.data();
    out.prompt_length = sequence.prompt_length;
    if (part.generated < sequence.min_tokens) {
      out.banned = &sequence.group->end_tokens;
    }
    AppendSegment(out.slot, out.row_begin, out.row_end, &batch->segments);
    AppendSegment(out.slot, out.output_begin, out.output_end,
                  &batch->output_segments);
  }
}

}  // namespace descant
