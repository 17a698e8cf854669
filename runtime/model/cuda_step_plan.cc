#include "runtime/model/cuda_step_plan.h"

#include <algorithm>
#include <bit>

#include "runtime/base/check.h"

namespace descant {
namespace {

using kernels::kAttentionSplit;
using kernels::kCudaNoPlace;
using kernels::kCudaNoSequence;
using kernels::kCudaNoSlot;

static_assert(kernels::kCudaKvBlock == kBlockSize);
static_assert(kernels::kCudaNoSlot == kNoSlot);

constexpr uint64_t kAlignment = 256;

uint64_t Take(uint64_t elements, uint64_t* size) {
  const uint64_t at = *size;
  *size = (*size + elements * 4 + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

int32_t RoundUp(int32_t value, int32_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Few sizes, so that few graphs are captured.
int32_t PaddedRank(int32_t rank) {
  return static_cast<int32_t>(
      std::bit_ceil(static_cast<uint32_t>(std::max(rank, 16))));
}

// The host's arrays as pointers.
struct Arrays {
  Arrays(const CudaStepLayout& layout, std::byte* base)
      : tokens(At<int32_t>(base, layout.tokens)),
        positions(At<int32_t>(base, layout.positions)),
        places(At<int32_t>(base, layout.places)),
        sequences(At<int32_t>(base, layout.sequences)),
        output_rows(At<int32_t>(base, layout.output_rows)),
        row_slots(At<int32_t>(base, layout.row_slots)),
        row_weights(At<float>(base, layout.row_weights)),
        chunk_rows(At<int32_t>(base, layout.chunk_rows)),
        chunk_keys(At<int32_t>(base, layout.chunk_keys)),
        block_tables(At<int32_t>(base, layout.block_tables)) {}

  template <typename T>
  static T* At(std::byte* base, uint64_t offset) {
    return reinterpret_cast<T*>(base + offset);
  }

  int32_t* tokens;
  int32_t* positions;
  int32_t* places;
  int32_t* sequences;
  int32_t* output_rows;
  int32_t* row_slots;
  float* row_weights;
  int32_t* chunk_rows;
  int32_t* chunk_keys;
  int32_t* block_tables;
};

// Rows that neither sample nor are guesses: a prompt's.
bool IsPrefill(const BatchSequence& sequence) {
  const int32_t sampled =
      sequence.output_end - sequence.output_begin - sequence.prompt_outputs;
  return sequence.row_end - sequence.row_begin > std::max(sampled, 1);
}

// Rows of the batch's sequences, and their pages. The longest context.
int32_t FillSequences(const Batch& batch, const CudaStepLayout& layout,
                      const Arrays& to, CudaStepShape* shape) {
  int32_t longest = 0;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const BatchSequence& sequence = batch.sequences[i];
    const int32_t* blocks = batch.block_tables.data() + sequence.block_begin;
    DESCANT_CHECK(sequence.block_count <= layout.table_stride);
    std::copy_n(blocks, sequence.block_count,
                to.block_tables + i * layout.table_stride);
    for (int32_t row = sequence.row_begin; row < sequence.row_end; ++row) {
      const int32_t token = batch.tokens[row];
      const int32_t position = batch.positions[row];
      DESCANT_CHECK(position / kBlockSize < sequence.block_count);
      to.tokens[row] =
          token == kTokenFromLastStep ? -1 - sequence.state_slot : token;
      to.positions[row] = position;
      to.places[row] =
          blocks[position / kBlockSize] * kBlockSize + position % kBlockSize;
      to.sequences[row] = static_cast<int32_t>(i);
      longest = std::max(longest, position + 1);
    }
    if (IsPrefill(sequence)) shape->prefill = true;
  }
  return longest;
}

void FillChunks(const Batch& batch, const CudaStepLayout& layout,
                const Arrays& to, CudaChunks* chunks) {
  chunks->chunks.clear();
  chunks->groups.clear();
  int32_t at = 0;  // in the arrays
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const BatchSequence& sequence = batch.sequences[i];
    const int32_t rows = sequence.row_end - sequence.row_begin;
    const int32_t keys = sequence.computed_length + rows;
    if (!IsPrefill(sequence) || rows < kMinChunkRows ||
        keys > layout.gather_tokens) {
      continue;
    }
    DESCANT_CHECK(batch.positions[sequence.row_end - 1] == keys - 1);
    const bool joins =
        !chunks->groups.empty() &&
        chunks->groups.back().row_end == sequence.row_begin &&
        chunks->groups.back().keys + keys <= layout.gather_tokens;
    if (!joins) {
      CudaChunkGroup& group = chunks->groups.emplace_back();
      group.chunk_begin = static_cast<int32_t>(chunks->chunks.size());
      group.begins = at;
      group.row_begin = sequence.row_begin;
      to.chunk_rows[at] = to.chunk_keys[at] = 0;
      ++at;
    }
    CudaChunkGroup& group = chunks->groups.back();
    chunks->chunks.push_back({static_cast<int32_t>(i), group.keys, keys});
    group.chunk_end = static_cast<int32_t>(chunks->chunks.size());
    group.row_end = sequence.row_end;
    group.keys += keys;
    group.most_rows = std::max(group.most_rows, rows);
    group.most_keys = std::max(group.most_keys, keys);
    to.chunk_rows[at] = group.row_end - group.row_begin;
    to.chunk_keys[at] = group.keys;
    ++at;
  }
}

void PadRows(int32_t begin, int32_t end, const Arrays& to) {
  for (int32_t row = begin; row < end; ++row) {
    to.tokens[row] = 0;
    to.positions[row] = 0;
    to.places[row] = kCudaNoPlace;
    to.sequences[row] = kCudaNoSequence;
  }
}

bool FillLora(const Batch& batch,
              absl::FunctionRef<const CudaAdapter&(int32_t)> adapter_in,
              const CudaStepLayout& layout, const Arrays& to,
              CudaStepShape* shape) {
  for (const Segment& segment : batch.segments) {
    const CudaAdapter& adapter = adapter_in(segment.slot);
    if (adapter.site_mask == 0) continue;
    shape->site_mask |= adapter.site_mask;
    shape->lora_rank = std::max(shape->lora_rank, PaddedRank(adapter.max_rank));
    for (int32_t row = segment.row_begin; row < segment.row_end; ++row) {
      int32_t round = 0;
      while (round < shape->lora_rounds &&
             to.row_slots[round * layout.max_rows + row] != kCudaNoSlot) {
        ++round;
      }
      if (round == kMaxLoraRounds) return false;
      int32_t* slots = to.row_slots + int64_t{round} * layout.max_rows;
      float* weights = to.row_weights + int64_t{round} * layout.max_rows;
      if (round == shape->lora_rounds) {
        ++shape->lora_rounds;
        std::fill_n(slots, shape->rows, kCudaNoSlot);
        std::fill_n(weights, shape->rows, 0.0f);
      }
      slots[row] = segment.slot;
      weights[row] = segment.weight;
    }
  }
  return true;
}

}  // namespace

CudaStepLayout::CudaStepLayout(const BatchLimits& limits, int32_t gather_tokens)
    : table_stride(limits.max_blocks_per_sequence),
      max_rows(limits.max_rows),
      gather_tokens(gather_tokens) {
  const auto rows = static_cast<uint64_t>(limits.max_rows);
  tokens = Take(rows, &size);
  positions = Take(rows, &size);
  places = Take(rows, &size);
  sequences = Take(rows, &size);
  output_rows = Take(static_cast<uint64_t>(limits.max_outputs), &size);
  row_slots = Take(kMaxLoraRounds * rows, &size);
  row_weights = Take(kMaxLoraRounds * rows, &size);
  // Each group has one entry more than it has chunks.
  const auto begins = 2 * static_cast<uint64_t>(limits.max_sequences);
  chunk_rows = Take(begins, &size);
  chunk_keys = Take(begins, &size);
  block_tables = Take(static_cast<uint64_t>(limits.max_sequences) *
                          static_cast<uint64_t>(table_stride),
                      &size);
}

int32_t PaddedRows(int32_t rows, int32_t most) {
  int32_t padded = 0;
  if (rows <= 8) {
    padded = static_cast<int32_t>(
        std::bit_ceil(static_cast<uint32_t>(std::max(rows, 0))));
  } else {
    padded = RoundUp(rows, rows <= 64 ? 8 : rows <= 256 ? 32 : 128);
  }
  return rows == 0 ? 0 : std::min(padded, most);
}

bool FillStep(const Batch& batch, const BatchLimits& limits,
              absl::FunctionRef<const CudaAdapter&(int32_t)> adapter_in,
              const CudaStepLayout& layout, std::byte* arrays,
              CudaStepShape* shape, uint64_t* bytes, CudaChunks* chunks) {
  const Arrays to(layout, arrays);
  *shape = {};
  shape->rows = PaddedRows(batch.rows(), limits.max_rows);
  shape->outputs = PaddedRows(batch.outputs(), limits.max_outputs);
  const int32_t longest = FillSequences(batch, layout, to, shape);
  FillChunks(batch, layout, to, chunks);
  PadRows(batch.rows(), shape->rows, to);
  std::copy(batch.output_rows.begin(), batch.output_rows.end(), to.output_rows);
  // Padded outputs are of no row. (A row that came twice would be added to
  // twice by the last norm.)
  std::fill(to.output_rows + batch.outputs(), to.output_rows + shape->outputs,
            -1);
  const int32_t parts = (longest + kAttentionSplit - 1) / kAttentionSplit;
  const int32_t most =
      (layout.table_stride * kBlockSize + kAttentionSplit - 1) /
      kAttentionSplit;
  shape->attention_parts = std::min(
      most, static_cast<int32_t>(
                std::bit_ceil(static_cast<uint32_t>(std::max(parts, 1)))));
  *bytes = layout.block_tables + uint64_t{4} * batch.sequences.size() *
                                     static_cast<uint64_t>(layout.table_stride);
  return FillLora(batch, adapter_in, layout, to, shape);
}

}  // namespace descant
