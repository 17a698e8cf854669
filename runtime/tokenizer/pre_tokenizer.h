// Cuts text into the pieces that BPE may not merge across.
#ifndef DESCANT_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
#define DESCANT_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/regex.h"

namespace descant {

// What becomes of the matches; names as in Hugging Face `tokenizers`.
enum class SplitBehavior {
  kIsolated,            // each match is a piece
  kRemoved,             // matches are dropped
  kMergedWithPrevious,  // each match ends the piece before it
  kMergedWithNext,      // each match begins the piece after it
  kContiguous,          // adjacent matches are one piece
};

struct PreTokenizerStep {
  // First puts a space before a piece that doesn't begin with one.
  bool add_prefix_space = false;
  // Then splits; none: the piece stays whole.
  std::optional<Regex> pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  // The text between the matches counts as the matches.
  bool invert = false;
};

// Steps in order, each applied to every piece of the one before. Immutable;
// thread-safe.
class PreTokenizer {
 public:
  using Sink = absl::FunctionRef<absl::Status(absl::string_view piece)>;

  explicit PreTokenizer(std::vector<PreTokenizerStep> steps);

  // Calls `sink` for each piece of valid UTF-8, in order, never with an empty
  // one. Views are valid during the call only.
  absl::Status Split(absl::string_view text, RegexScratch* scratch,
                     Sink sink) const;

 private:
  absl::Status RunFrom(size_t step, absl::string_view text,
                       RegexScratch* scratch, Sink sink) const;
  absl::Status RunMerged(size_t step, absl::string_view text,
                         RegexScratch* scratch, Sink sink) const;

  std::vector<PreTokenizerStep> steps_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
