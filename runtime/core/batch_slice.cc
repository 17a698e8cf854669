#include "runtime/core/batch_slice.h"

#include <algorithm>
#include <vector>

#include "runtime/base/check.h"

namespace descant {
namespace {

// What of `segments` lies in [begin, end), counted from `begin`.
void SliceSegments(const std::vector<Segment>& segments, int32_t begin,
                   int32_t end, std::vector<Segment>* slice) {
  for (Segment segment : segments) {
    segment.row_begin = std::max(segment.row_begin, begin) - begin;
    segment.row_end = std::min(segment.row_end, end) - begin;
    if (segment.row_begin < segment.row_end) slice->push_back(segment);
  }
}

}  // namespace

void SliceBatch(const Batch& batch, int32_t begin, int32_t end, Batch* slice) {
  DESCANT_CHECK(begin >= 0 && begin < end &&
                end <= static_cast<int32_t>(batch.sequences.size()));
  slice->Clear();
  slice->step = batch.step;
  slice->merged = batch.merged;
  const BatchSequence& first = batch.sequences[begin];
  const BatchSequence& last = batch.sequences[end - 1];
  const int32_t rows = first.row_begin;
  const int32_t outputs = first.output_begin;
  slice->tokens.assign(batch.tokens.begin() + rows,
                       batch.tokens.begin() + last.row_end);
  slice->positions.assign(batch.positions.begin() + rows,
                          batch.positions.begin() + last.row_end);
  for (int32_t o = outputs; o < last.output_end; ++o) {
    slice->output_rows.push_back(batch.output_rows[o] - rows);
  }
  for (int32_t i = begin; i < end; ++i) {
    BatchSequence sequence = batch.sequences[i];
    const auto blocks = batch.block_tables.begin() + sequence.block_begin;
    sequence.block_begin = static_cast<int32_t>(slice->block_tables.size());
    slice->block_tables.insert(slice->block_tables.end(), blocks,
                               blocks + sequence.block_count);
    sequence.row_begin -= rows;
    sequence.row_end -= rows;
    sequence.output_begin -= outputs;
    sequence.output_end -= outputs;
    slice->sequences.push_back(sequence);
  }
  SliceSegments(batch.segments, rows, last.row_end, &slice->segments);
  SliceSegments(batch.output_segments, outputs, last.output_end,
                &slice->output_segments);
}

void AppendOutput(const StepOutput& part, StepOutput* whole) {
  const auto sampled = static_cast<int32_t>(whole->sampled.size());
  const auto top = static_cast<int32_t>(whole->top.size());
  for (StepOutput::PerSequence sequence : part.sequences) {
    sequence.begin += sampled;
    sequence.end += sampled;
    whole->sequences.push_back(sequence);
  }
  for (SampledToken token : part.sampled) {
    token.top_begin += top;
    token.top_end += top;
    whole->sampled.push_back(token);
  }
  whole->top.insert(whole->top.end(), part.top.begin(), part.top.end());
}

}  // namespace descant
