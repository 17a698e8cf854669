// What a sequence has for speculation: its guesses and how good they are.
#ifndef DESCANT_RUNTIME_CORE_SPECULATION_H_
#define DESCANT_RUNTIME_CORE_SPECULATION_H_

#include <array>
#include <cstdint>

#include "runtime/core/draft_budget.h"
#include "runtime/core/prompt_lookup.h"

namespace descant {

// Drafts of a sequence in a step, at most. With the row before them they are
// one item of attention in models of up to three query heads per KV head.
inline constexpr int32_t kMaxDraftTokens = 15;

// Owned by its sequence. A plain record: the rules live in the Scheduler.
struct Speculation {
  Speculation(int32_t most_drafts, int32_t max_tokens)
      : lookup(max_tokens), most(most_drafts) {}

  PromptLookup lookup;
  DraftAcceptance acceptance;
  int32_t most;  // drafts a step, in [0, kMaxDraftTokens]
  // What may follow the token at hand; only the first few get rows, or none.
  std::array<int32_t, kMaxDraftTokens> guesses{};
  int32_t guessed = 0;
  int32_t wanted = 0;  // of them, with a row that pays

  // Since the sequence began.
  int32_t draft_tokens = 0;
  int32_t accepted_draft_tokens = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_SPECULATION_H_
