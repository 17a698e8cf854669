#include "tests/bench/step/batches.h"

#include <random>

namespace descant::bench {

Batch MakeBatch(int32_t sequences, int32_t rows, int32_t computed,
                int32_t vocab, bool adapters, const SamplingParams& sampling) {
  Batch batch;
  std::mt19937 random(3);
  const int32_t blocks = (computed + rows + kBlockSize - 1) / kBlockSize;
  for (int32_t i = 0; i < sequences; ++i) {
    BatchSequence sequence;
    sequence.id = i + 1;
    sequence.state_slot = i;
    sequence.slot = adapters ? i : kNoSlot;
    sequence.row_begin = batch.rows();
    sequence.row_end = batch.rows() + rows;
    sequence.computed_length = computed;
    sequence.block_begin = static_cast<int32_t>(batch.block_tables.size());
    sequence.block_count = blocks;
    sequence.sampling = &sampling;
    for (int32_t b = 0; b < blocks; ++b) {
      batch.block_tables.push_back(i * blocks + b);
    }
    for (int32_t r = 0; r < rows; ++r) {
      batch.tokens.push_back(static_cast<int32_t>(random() % vocab));
      batch.positions.push_back(computed + r);
    }
    sequence.output = OutputKind::kTokens;
    sequence.output_begin = batch.outputs();
    batch.output_rows.push_back(batch.rows() - 1);
    sequence.output_end = batch.outputs();
    if (adapters) {
      batch.segments.push_back({sequence.row_begin, sequence.row_end, i, 1.0f});
    }
    batch.sequences.push_back(sequence);
  }
  return batch;
}

}  // namespace descant::bench
