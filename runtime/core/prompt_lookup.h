// Guesses a sequence's next tokens from its own text: where its last tokens
// occurred before, what followed them there may follow again.
//
// Source: A. Saxena, "Prompt Lookup Decoding" (2023). vLLM's n-gram proposer
// searches the whole text each step; here an index grows with the text.
#ifndef DESCANT_RUNTIME_CORE_PROMPT_LOOKUP_H_
#define DESCANT_RUNTIME_CORE_PROMPT_LOOKUP_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace descant {

// Of one sequence. Thread-compatible. Allocates at construction only: 8 to 12
// bytes a token.
class PromptLookup {
 public:
  // Tokens that must have occurred before for a guess to be made.
  static constexpr int32_t kMinMatch = 2;
  // Occurrences with more tokens in common than this are taken to be equally
  // good; the last one wins.
  static constexpr int32_t kMaxMatch = 32;
  // Occurrences of the last kMinMatch tokens that one search looks at, the last
  // ones: bounds its time.
  static constexpr int32_t kMaxCandidates = 32;

  // For up to `max_tokens` tokens.
  explicit PromptLookup(int32_t max_tokens);

  // `tokens`: those of the call before, and perhaps more behind them. Fills the
  // front of `drafts` with what followed the longest earlier occurrence of
  // their end, and returns how many; 0 where there was none. What follows may
  // run into the drafts themselves: a text that goes round goes on so. Takes
  // constant time for each new token.
  int32_t Propose(absl::Span<const int32_t> tokens, absl::Span<int32_t> drafts);

 private:
  size_t BucketOf(absl::Span<const int32_t> tokens, int32_t end) const;
  void Follow(absl::Span<const int32_t> tokens);
  void Index(absl::Span<const int32_t> tokens);
  int32_t Find(absl::Span<const int32_t> tokens) const;

  // An occurrence is named by its end: the index of the token behind it, 0 for
  // none.
  std::vector<int32_t> last_;        // by bucket: the last one
  std::vector<int32_t> previous_;    // by end: the one before, in its bucket
  int32_t indexed_ = kMinMatch - 1;  // ends up to this are known
  int32_t seen_ = 0;                 // tokens of the call before
  int32_t match_ = 0;  // end of the occurrence that the text follows
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_PROMPT_LOOKUP_H_
