// What a loader assembles and a Tokenizer runs on. Private to this folder.
#ifndef DESCANT_RUNTIME_TOKENIZER_TOKENIZER_PARTS_H_
#define DESCANT_RUNTIME_TOKENIZER_TOKENIZER_PARTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/bpe.h"
#include "runtime/tokenizer/pre_tokenizer.h"

namespace descant {

// The bytes and the kind of each token, by id. Ids may have gaps.
class TokenTable {
 public:
  // Largest accepted id plus one: bounds memory against a hostile file.
  static constexpr int32_t kMaxSize = 1 << 24;

  // REQUIRES: 0 <= id < kMaxSize. A later call for the same id wins.
  // `token` is spelled in the byte-level alphabet or is an added token's text.
  void Set(int32_t id, absl::string_view token, bool special);

  int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  // For any id; empty and false where there is no token.
  absl::string_view bytes(int32_t id) const;
  bool special(int32_t id) const;

 private:
  struct Entry {
    std::string bytes;
    bool special = false;
  };
  std::vector<Entry> entries_;
};

// Ids that are not set are none.
struct NamedTokens {
  std::optional<int32_t> bos;
  std::optional<int32_t> eos;
  std::optional<int32_t> pad;
  std::optional<int32_t> unk;
};

class TokenizerParts {
 public:
  TokenizerParts(BpeModel bpe, PreTokenizer pre_tokenizer,
                 const std::vector<AddedToken>& added, bool nfc);

  // Of an added token or a vocabulary entry, by its spelling in the file.
  std::optional<int32_t> TokenId(absl::string_view token) const;

  // Searched for in the raw text, then, in what is left after normalization,
  // those marked `normalized`.
  AddedTokenMatcher raw_matcher;
  AddedTokenMatcher normalized_matcher;
  bool nfc;
  PreTokenizer pre_tokenizer;
  BpeModel bpe;
  TokenTable table;
  absl::flat_hash_map<std::string, int32_t> added_ids;
  // What add_special_tokens puts around the text.
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  NamedTokens named;
  std::string chat_template;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_TOKENIZER_PARTS_H_
