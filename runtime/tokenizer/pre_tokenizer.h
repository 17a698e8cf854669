// Cuts text into the pieces that a model may not join tokens across.
#ifndef DESCANT_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
#define DESCANT_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_

#include <cstddef>
#include <optional>
#include <string>
#include <variant>
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

// A set of characters; each is a match of its own.
using CharacterClass = bool (*)(char32_t);

struct SplitStep {
  std::variant<Regex, CharacterClass> pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  // The text between the matches counts as the matches.
  bool invert = false;
};

struct ByteLevelStep {
  // First puts a space before a piece that doesn't begin with one.
  bool add_prefix_space = false;
  // Then splits; none: the piece stays whole.
  std::optional<Regex> pattern;
  // Then spells the bytes in the byte-level alphabet. False: the model
  // (BpeModel::Options::byte_level) takes raw bytes; the last step only.
  bool spell = false;
};

// Spaces become `replacement` (one character), which begins a piece.
struct MetaspaceStep {
  // Whether to put it before a piece that doesn't begin with it: always, only
  // at the beginning of the whole text, never.
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement = "\xe2\x96\x81";  // U+2581
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};

using PreTokenizerStep = std::variant<SplitStep, ByteLevelStep, MetaspaceStep>;

// Steps in order, each applied to every piece of the one before. Immutable;
// thread-safe.
class PreTokenizer {
 public:
  using Sink = absl::FunctionRef<absl::Status(absl::string_view piece)>;

  // REQUIRES: few steps (the call stack grows with them).
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps = {});

  // Calls `sink` for each piece of valid UTF-8, in order, never with an empty
  // one. Views are valid during the call only. `origin_bytes` as in
  // NormalizedText.
  absl::Status Split(absl::string_view text, size_t origin_bytes,
                     RegexScratch* scratch, Sink sink) const;

 private:
  class Run;

  std::vector<PreTokenizerStep> steps_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_PRE_TOKENIZER_H_
