// One generation in flight: its tokens, counters, KV blocks and leases.
#ifndef DESCANT_RUNTIME_CORE_SEQUENCE_H_
#define DESCANT_RUNTIME_CORE_SEQUENCE_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "adapters/slot_table.h"
#include "runtime/core/batch.h"
#include "runtime/core/block_allocator.h"
#include "runtime/core/fairness.h"
#include "runtime/core/request.h"

namespace descant {

enum class SequenceState : uint8_t {
  kWaiting,    // never ran
  kRunning,    // has a state slot, blocks, and its adapter's lease
  kPreempted,  // gave its blocks up; will be recomputed
  kFinished,   // its finish event is out, a step in flight still uses it
};

// Owned by the Scheduler. A plain record: the rules live in the Scheduler.
//
// Invariants: 0 <= scheduled_length <= length(); running sequences have blocks
// for scheduled_length tokens, waiting and preempted ones have none.
struct Sequence {
  explicit Sequence(Request r)
      : request(std::move(r)), tokens(std::move(request.prompt)) {
    prompt_length = static_cast<int32_t>(tokens.size());
  }

  // The prompt's tokens have moved to `tokens`.
  Request request;
  std::vector<int32_t> tokens;  // prompt, then what was generated
  int32_t prompt_length = 0;
  // Tokens whose keys and values are in the cache or will be once the steps in
  // flight are done.
  int32_t scheduled_length = 0;
  int32_t pending_tokens = 0;   // samples of steps in flight
  int32_t steps_in_flight = 0;  // 0..2

  SequenceState state = SequenceState::kWaiting;
  bool paused = false;        // its reader fell behind
  int32_t skipped_steps = 0;  // for lack of an adapter slot, since it ran
  int32_t state_slot = -1;
  TokenFairness::Tenant tenant = 0;
  uint64_t order = 0;      // of arrival
  uint64_t admission = 0;  // of the first admission: the age
  MonotonicTime first_scheduled{};
  uint64_t visited_pass = 0;  // the last Schedule() that gave it rows

  std::vector<Block> blocks;  // in order of position
  std::optional<SlotLease> lease;

  // Links of WaitingQueue.
  Sequence* previous = nullptr;
  Sequence* next = nullptr;

  // With the samples still in flight.
  int32_t length() const {
    return static_cast<int32_t>(tokens.size()) + pending_tokens;
  }
  int32_t generated() const { return length() - prompt_length; }
  // Rows to compute until the next sample. Exactly 1 while decoding.
  int32_t rows_left() const { return length() - scheduled_length; }
  int32_t slot() const { return lease ? lease->slot() : kNoSlot; }
};

// What happened to one sequence. The last event of a sequence has `finish`;
// after it the id is forgotten.
struct SequenceEvent {
  RequestId id = 0;
  // New tokens: StepOutput::sampled[begin, end) of the step just given to
  // Scheduler::Update. A token that ended the sequence is included.
  int32_t begin = 0;
  int32_t end = 0;
  FinishReason finish = FinishReason::kNone;
  int32_t stop_token = -1;  // for kEndOfSequence and kStopToken
  int32_t prompt_tokens = 0;
  int32_t generated_tokens = 0;  // so far
  MonotonicTime first_scheduled{};
};

inline int32_t BlocksFor(int32_t tokens) {
  return (tokens + kBlockSize - 1) / kBlockSize;
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_SEQUENCE_H_
