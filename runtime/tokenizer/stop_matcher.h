// Stop strings over token borders.
#ifndef DESCANT_RUNTIME_TOKENIZER_STOP_MATCHER_H_
#define DESCANT_RUNTIME_TOKENIZER_STOP_MATCHER_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace descant {

// Passes text through until one of the stop strings occurs, holding back the
// longest tail that could still become one. The match that ends first wins; of
// several that end at the same byte, the longest. So the outcome doesn't
// depend on how the text was cut into deltas. If deltas and stops are whole
// UTF-8 characters, so is what is emitted. O(stops) per byte, amortised.
// Thread-compatible; one per generation.
class StopMatcher {
 public:
  // Empty strings in `stops` are ignored; no stops: everything passes at once.
  explicit StopMatcher(std::vector<std::string> stops);

  // Returns the text that is now safe to emit: it never contains the matched
  // stop string, nor anything after it. After a match always empty. Unless
  // `may_match`, a stop string that ends within `delta` counts as text; one
  // that only begins there may still be met.
  std::string Append(absl::string_view delta, bool may_match = true);

  // The generation ended without (another) match: returns what was held back.
  std::string Flush();

  bool matched() const { return matched_ >= 0; }
  // Index into the constructor's `stops`; -1 before a match.
  int matched_index() const { return matched_; }

 private:
  // Knuth-Morris-Pratt: failure[i] is the length of the longest proper border
  // of the first i + 1 bytes, `length` how much of the stop the text ends with.
  struct Stop {
    std::string text;
    std::vector<size_t> failure;
    size_t length = 0;
    int index = 0;
  };

  std::vector<Stop> stops_;
  std::string held_;
  int matched_ = -1;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_STOP_MATCHER_H_
