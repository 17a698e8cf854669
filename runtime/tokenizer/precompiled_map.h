// SentencePiece's `precompiled_charsmap`: a compiled table of text
// replacements (its format: a Darts double-array trie, Aoe, IEEE TSE 1989, and
// the replacements, NUL-terminated, one after the other).
#ifndef DESCANT_RUNTIME_TOKENIZER_PRECOMPILED_MAP_H_
#define DESCANT_RUNTIME_TOKENIZER_PRECOMPILED_MAP_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// Immutable; thread-safe.
class PrecompiledMap {
 public:
  // The raw bytes (tokenizer.json has them in base64): the trie's size in
  // bytes as little-endian uint32, the trie's units, the replacements.
  // Untrusted: INVALID_ARGUMENT when they don't fit together.
  static absl::StatusOr<PrecompiledMap> Parse(absl::string_view bytes);

  // Of valid UTF-8. By grapheme clusters of fewer than six bytes, then by
  // characters: what begins with a key is replaced whole by the value of the
  // shortest such key, as Hugging Face does. O(n * longest key).
  // `origin_bytes` as in NormalizedText. INVALID_ARGUMENT: the result is longer
  // than `limit` bytes.
  absl::StatusOr<std::string> Apply(absl::string_view text, size_t limit,
                                    size_t* origin_bytes) const;

 private:
  PrecompiledMap() = default;
  bool Replace(absl::string_view chunk, std::string* out) const;
  std::optional<absl::string_view> Find(absl::string_view chunk) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_PRECOMPILED_MAP_H_
