// Tokens that are found in the text before anything else looks at it.
#ifndef DESCANT_RUNTIME_TOKENIZER_ADDED_TOKENS_H_
#define DESCANT_RUNTIME_TOKENIZER_ADDED_TOKENS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/byte_trie.h"

namespace descant {

// As in tokenizer.json's `added_tokens`.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = false;
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool single_word = false;  // not next to a word character
  bool normalized = false;   // searched for in the normalized text
};

// Finds a set of tokens in text: leftmost, then longest, as an Aho-Corasick
// automaton of that match kind does. One trie walk per position, so time is
// O(text * longest token), independent of their number. Immutable;
// thread-safe.
class AddedTokenMatcher {
 public:
  // Empty id: ordinary text.
  using Sink = absl::FunctionRef<absl::Status(absl::string_view text,
                                              std::optional<int32_t> id)>;

  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  // Calls `sink` for the stretches of valid UTF-8 `text`, in order, never with
  // an empty ordinary one. `parse_special` false: special tokens are text.
  absl::Status Split(absl::string_view text, bool parse_special,
                     Sink sink) const;

 private:
  // The longest token that `text` begins with; null: none.
  const AddedToken* Match(absl::string_view text) const;

  std::vector<AddedToken> tokens_;
  ByteTrie trie_;  // values: indices into tokens_
  bool first_bytes_[256] = {};
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_ADDED_TOKENS_H_
