// One generation in flight: its tokens, counters, KV blocks and leases; and
// the group of those that answer one request.
#ifndef DESCANT_RUNTIME_CORE_SEQUENCE_H_
#define DESCANT_RUNTIME_CORE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "adapters/adapter.h"
#include "adapters/adapter_key.h"
#include "adapters/slot_table.h"
#include "runtime/core/batch.h"
#include "runtime/core/block_allocator.h"
#include "runtime/core/fairness.h"
#include "runtime/core/prefix_cache.h"
#include "runtime/core/request.h"
#include "runtime/core/speculation.h"

namespace descant {

inline int32_t BlocksFor(int32_t tokens) {
  return (tokens + kBlockSize - 1) / kBlockSize;
}

// Full blocks of a prompt, less one row: a sequence that starts on another
// one's blocks still computes the row that samples its first token.
inline int32_t SharedBlocks(int32_t prompt_length) {
  return (prompt_length - 1) / kBlockSize;
}

enum class SequenceState : uint8_t {
  kWaiting,    // never ran
  kRunning,    // has a state slot, blocks, and its adapter's lease
  kPreempted,  // gave its blocks up; will be recomputed
  kFinished,   // its finish event is out, a step in flight still uses it
};

struct SequenceGroup;

// Owned by its group. A plain record: the rules live in the Scheduler.
//
// Invariants: 0 <= scheduled_length <= length(); running sequences have blocks
// for scheduled_length tokens, waiting and preempted ones have none. Those may
// have the lease of a slot whose adapter loads for them.
struct Sequence {
  Sequence(SequenceGroup* group, int32_t choice, std::vector<int32_t> prompt);

  const Request& request() const;

  // What every step touches comes first.
  SequenceGroup* const group;
  const RequestId id;    // the request's
  const int32_t choice;  // which of its answers
  const int32_t prompt_length;
  std::vector<int32_t> tokens;  // prompt, then what was generated
  int32_t max_length = 0;       // tokens at which it ends
  // Tokens whose keys and values are in the cache or will be once the steps in
  // flight are done.
  int32_t scheduled_length = 0;
  int32_t pending_tokens = 0;   // samples of steps in flight
  int32_t steps_in_flight = 0;  // 0..2
  // Rows behind the last one of the step in flight: how many tokens it gives
  // is known when it is done, and the sequence has no rows before.
  int32_t drafts_in_flight = 0;
  // Rows [0, to_score) give log-probabilities of the prompt; the first
  // `scored` of them did or will once the steps in flight are done.
  int32_t to_score = 0;
  int32_t scored = 0;
  const int32_t min_tokens;
  SequenceState state = SequenceState::kWaiting;
  bool paused = false;   // as its group
  const bool plain_end;  // nothing but its length, or end of sequence, ends it
  const bool has_siblings;
  int32_t state_slot = -1;
  // For lack of an adapter slot, since it ran.
  int32_t skipped_steps = 0;
  TokenFairness::Tenant tenant = 0;
  // SlotTable::releases() + 1 when its adapter last found no memory; 0: never.
  uint64_t deferred_at = 0;
  bool deferred_by_share = false;  // and only its own tenant can make room
  uint64_t visited_pass = 0;       // the last Schedule() that gave it rows
  std::optional<SlotLease> lease;
  std::vector<Block> blocks;  // in order of position
  // The first cached.depth of them are known to the prefix cache.
  PrefixCache::Cursor cached;
  std::unique_ptr<Speculation> speculation;  // null: it has no drafts
  MonotonicTime first_scheduled{};
  uint64_t order = 0;      // of arrival
  uint64_t admission = 0;  // of the first admission: the age

  // Of WaitingQueue.
  int32_t queue_tokens = 0;  // of the prompt, that wait with it
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

// A request and the sequences that answer it. Owned by the Scheduler.
//
// Where the prompt has blocks to share, or is scored, only the first sequence
// exists at first. When it has its first token, the prompt's blocks are sound:
// the group takes a hold on them, and the other sequences start on them. While
// the hold lasts, a sequence that was preempted starts there again. The hold
// ends with the last answer, or when others need blocks that nothing but the
// hold keeps.
struct SequenceGroup {
  explicit SequenceGroup(Request r)
      : request(std::move(r)), unfinished(request.sampling.n) {}

  Request request;  // its prompt has moved to the first sequence's tokens
  std::vector<int32_t> end_tokens;  // end of sequence and stop tokens
  // Those not released yet, in order of choice.
  std::vector<std::unique_ptr<Sequence>> sequences;
  int32_t to_come = 0;     // answers whose sequence doesn't exist yet
  int32_t unfinished = 0;  // answers without a finish event
  bool prompt_charged = false;
  int32_t cached_tokens = 0;         // of the prompt, found when it began
  bool paused = false;               // its reader fell behind
  std::vector<Block> prompt_blocks;  // the hold; empty or SharedBlocks()
  TokenFairness::Tenant tenant = 0;
  uint64_t order = 0;  // of arrival; each answer has one, this is the first's
};

inline Sequence::Sequence(SequenceGroup* g, int32_t index,
                          std::vector<int32_t> prompt)
    : group(g),
      id(g->request.id),
      choice(index),
      prompt_length(static_cast<int32_t>(prompt.size())),
      tokens(std::move(prompt)),
      min_tokens(g->request.sampling.min_tokens),
      plain_end(!g->request.sampling.ignore_eos &&
                g->request.sampling.stop_token_ids.empty()),
      has_siblings(g->request.sampling.n > 1) {}

inline const Request& Sequence::request() const { return group->request; }

// The last one first: what a beginning has in common with others stays longest
// in the prefix cache.
inline void ReleaseBlocks(Sequence* sequence) {
  while (!sequence->blocks.empty()) sequence->blocks.pop_back();
}

// Whose prompts, and under which weights.
inline AdapterKeyView PrefixRootOf(const Sequence& sequence) {
  const Request& request = sequence.request();
  return {request.tenant, request.adapter == nullptr ? absl::string_view()
                                                     : request.adapter->digest};
}

// What happened to one sequence. Its last event has `finish`; the last event
// of all answers to a request has `last`, and after it the id is forgotten.
struct SequenceEvent {
  RequestId id = 0;
  int32_t choice = 0;
  // New tokens: StepOutput::sampled[begin, end) of the step just given to
  // Scheduler::Update. A token that ended the sequence is included.
  int32_t begin = 0;
  int32_t end = 0;
  // The prompt's next tokens with their log-probabilities:
  // StepOutput::sampled[prompt_begin, begin).
  int32_t prompt_begin = 0;
  FinishReason finish = FinishReason::kNone;
  bool last = false;
  int32_t stop_token = -1;  // for kEndOfSequence and kStopToken
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;     // of them, found in the prefix cache
  int32_t generated_tokens = 0;  // so far
  int32_t draft_tokens = 0;      // guessed ahead, so far
  int32_t accepted_draft_tokens = 0;
  MonotonicTime first_scheduled{};
};

// Nothing new, as far as it is.
inline SequenceEvent EventOf(const Sequence& sequence) {
  SequenceEvent event;
  event.id = sequence.id;
  event.choice = sequence.choice;
  event.prompt_tokens = sequence.prompt_length;
  event.cached_tokens = sequence.group->cached_tokens;
  event.generated_tokens =
      static_cast<int32_t>(sequence.tokens.size()) - sequence.prompt_length;
  if (sequence.speculation != nullptr) {
    event.draft_tokens = sequence.speculation->draft_tokens;
    event.accepted_draft_tokens = sequence.speculation->accepted_draft_tokens;
  }
  event.first_scheduled = sequence.first_scheduled;
  return event;
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_SEQUENCE_H_
