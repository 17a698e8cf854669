// The contract between the scheduler and every runner: one forward pass.
//
// Filled by Scheduler::Schedule, read by Runner::Launch. All arrays are sized
// once at start (BatchLimits) and reused: a step allocates nothing.
#ifndef DESCANT_RUNTIME_CORE_BATCH_H_
#define DESCANT_RUNTIME_CORE_BATCH_H_

#include <cstdint>
#include <vector>

#include "runtime/core/request.h"

namespace descant {

class MergedWeights;  // runtime/model/merged_weights.h

// Tokens of one KV block. Fixed: kernels and cache layout know it.
inline constexpr int32_t kBlockSize = 32;

// In Batch::tokens: the token this sequence sampled in the step before, which
// the scheduler may not know yet while a step is in flight.
inline constexpr int32_t kTokenFromLastStep = -1;

// Segment::slot and BatchSequence::slot of rows without an adapter. Such rows
// have no segment.
inline constexpr int32_t kNoSlot = -1;

// A contiguous run of rows that use the adapter in `slot`. Segments may
// overlap (several weighted adapters on the same rows) and may split a
// sequence (an adapter that is active from some token on).
struct Segment {
  int32_t row_begin = 0;
  int32_t row_end = 0;
  int32_t slot = 0;
  float weight = 1.0f;
};

enum class OutputKind : uint8_t {
  kNone,    // a prefill chunk that does not reach the prompt's end
  kTokens,  // logits and a sample for every output row
  kPooled,  // hidden state of the output rows (encoders)
};

// One sequence's part of the step.
struct BatchSequence {
  RequestId id = 0;
  // Which of the request's answers this is: sampling->choice + choice is in
  // the key of the sampling noise.
  int32_t choice = 0;
  // Stable while the sequence runs, in [0, max_sequences): where a runner
  // keeps what it remembers of the sequence from step to step.
  int32_t state_slot = 0;
  int32_t slot = kNoSlot;  // adapter slot
  int32_t row_begin = 0;   // rows [row_begin, row_end)
  int32_t row_end = 0;
  int32_t computed_length = 0;  // tokens already in the KV cache
  // block_tables[block_begin, block_begin + block_count): physical KV blocks
  // in order of position; they cover computed_length + rows. None for models
  // without a KV cache. Blocks before computed_length / kBlockSize may be
  // those of another answer to the same request as well: nobody writes there.
  int32_t block_begin = 0;
  int32_t block_count = 0;
  OutputKind output = OutputKind::kNone;
  // Batch::output_rows[output_begin, output_end), the last of its rows. The
  // first prompt_outputs of them give the log-probability of the prompt's next
  // token (with sampling->prompt_logprobs), the others sample: 1 + drafts, or
  // none. The rows of drafts are the last ones, and their tokens guesses. Each
  // output is what the sequence samples if the guesses up to its row are right;
  // results end with the first that isn't the next row's guess.
  int32_t output_begin = 0;
  int32_t output_end = 0;
  int32_t prompt_outputs = 0;
  // Tokens generated before this step: the counter of the sampling noise is
  // the position, so that preemption and chunking change nothing.
  int32_t generated = 0;
  // The next three are owned by the sequence and outlive the step.
  const SamplingParams* sampling = nullptr;
  // Its tokens from position 0 on, prompt_length of them the prompt's. All up
  // to the last row are valid, but for drafts and kTokenFromLastStep. May be
  // null where nothing reads it: no penalties, no prompt_outputs.
  const int32_t* history = nullptr;
  int32_t prompt_length = 0;
  // Not to be sampled before min_tokens: what would end it. Null from there on.
  const std::vector<int32_t>* banned = nullptr;
  // One bit per vocabulary entry, 1 = allowed, or null: everything is.
  const uint32_t* token_mask = nullptr;
};

struct Batch {
  uint64_t step = 0;
  // Ordered by adapter slot, rows without adapter first, so that every
  // adapter is one segment. Within a slot by sequence, within a sequence by
  // position.
  std::vector<int32_t> tokens;     // [rows]
  std::vector<int32_t> positions;  // [rows]
  std::vector<BatchSequence> sequences;
  std::vector<int32_t> block_tables;
  std::vector<int32_t> output_rows;      // [outputs] -> row, ascending
  std::vector<Segment> segments;         // over rows
  std::vector<Segment> output_segments;  // over outputs
  // Not null: all rows belong to one segment of weight 1, and these weights,
  // which live until Collect, hold its adapter: the runner computes with them
  // and leaves the segments aside. Set by the engine, after Schedule.
  const MergedWeights* merged = nullptr;

  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
  int32_t outputs() const { return static_cast<int32_t>(output_rows.size()); }
  bool empty() const { return tokens.empty(); }
  // Keeps the capacity.
  void Clear();
};

// What `Batch` and a runner's scratch are sized for.
struct BatchLimits {
  int32_t max_rows = 0;  // the token budget
  int32_t max_sequences = 0;
  int32_t max_outputs = 0;
  int32_t max_blocks_per_sequence = 0;
  int32_t max_slots = 0;  // adapter slots on the device
};

// One sampled token, or one of the prompt.
struct SampledToken {
  int32_t token = 0;
  float logprob = 0;  // natural log, of the unmodified distribution
  // [begin, end) into StepOutput::top; empty unless asked for.
  int32_t top_begin = 0;
  int32_t top_end = 0;
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

// Result of one batch: for every sequence one entry an output, without those
// that rest on a wrong draft. Owned and reused by the runner; valid until its
// next Launch.
struct StepOutput {
  struct PerSequence {
    RequestId id = 0;
    int32_t state_slot = 0;
    int32_t begin = 0;  // StepOutput::sampled[begin, end)
    int32_t end = 0;
    // A non-finite value in this sequence's rows: it alone fails. With drafts
    // in the step results end before the fault instead, with none where it is
    // in the first row: a guess may be at fault, and leaves nothing behind.
    bool numeric_fault = false;
    // The step could not be computed with it: it has no results.
    bool failed = false;
  };
  uint64_t step = 0;
  std::vector<PerSequence> sequences;  // in the batch's order
  std::vector<SampledToken> sampled;
  std::vector<TokenLogprob> top;  // likeliest first
  void Clear();
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_BATCH_H_
