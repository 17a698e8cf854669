// What a loader assembles and a Tokenizer runs on. Private to this folder.
#ifndef DESCANT_RUNTIME_TOKENIZER_TOKENIZER_PARTS_H_
#define DESCANT_RUNTIME_TOKENIZER_TOKENIZER_PARTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tokenizer/added_tokens.h"
#include "runtime/tokenizer/decoder.h"
#include "runtime/tokenizer/normalizer.h"
#include "runtime/tokenizer/pre_tokenizer.h"
#include "runtime/tokenizer/token_model.h"

namespace descant {

// The text and the kind of each token, by id. Ids may have gaps.
class TokenTable {
 public:
  // Largest accepted id plus one: bounds memory against a hostile file.
  static constexpr int32_t kMaxSize = 1 << 24;

  struct Entry {
    bool present = false;
    bool special = false;  // a control token
    bool skipped = false;  // left out of text without special tokens
    std::string prepared;  // for DecoderStream
    std::string bytes;     // Tokenizer::TokenBytes
  };

  // REQUIRES: 0 <= id < kMaxSize. A later call for the same id wins.
  void Set(int32_t id, Entry entry);

  int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  // For any id; null where there is no token.
  const Entry* Find(int32_t id) const;

 private:
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
  // What a loader chooses. The defaults do nothing to the text.
  struct Components {
    std::unique_ptr<const TokenModel> model;  // not null
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    Decoder decoder = Decoder::ByteLevel();
    std::vector<AddedToken> added;
  };

  // INVALID_ARGUMENT: a pattern of the normalizer or decoder that fails on a
  // token.
  static absl::StatusOr<std::unique_ptr<TokenizerParts>> Create(
      Components components);

  // Of an added token or a vocabulary entry, by its spelling in the file.
  std::optional<int32_t> TokenId(absl::string_view token) const;

  // Searched for in the raw text, then, in what is left after normalization,
  // those marked `normalized`.
  AddedTokenMatcher raw_matcher;
  AddedTokenMatcher normalized_matcher;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<const TokenModel> model;
  Decoder decoder;
  TokenTable table;
  absl::flat_hash_map<std::string, int32_t> added_ids;
  // What add_special_tokens puts around the text.
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
  NamedTokens named;
  std::string chat_template;
  std::string tool_use_template;
  // Some text becomes no token: the normalizer or pre-tokenizer removes it.
  bool drops_text = false;

 private:
  explicit TokenizerParts(Components components);
  absl::Status FillTable(const std::vector<AddedToken>& added);
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_TOKENIZER_PARTS_H_
