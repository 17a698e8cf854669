// WordPiece as BERT has it (Devlin et al., arXiv:1810.04805): the longest token
// first, from the left; and WordLevel, where a piece is a token or unknown.
#ifndef DESCANT_RUNTIME_TOKENIZER_WORD_PIECE_H_
#define DESCANT_RUNTIME_TOKENIZER_WORD_PIECE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/byte_trie.h"
#include "runtime/tokenizer/token_model.h"

namespace descant {

class WordPieceModel : public TokenModel {
 public:
  struct Options {
    std::string unknown_token = "[UNK]";
    // Spelled before every token but a word's first.
    std::string continuing_subword_prefix = "##";
    // Longer words are the unknown token.
    size_t max_characters_per_word = 100;
  };

  // A vocabulary without `unknown_token` refuses unknown words.
  static std::unique_ptr<WordPieceModel> Create(TokenVocabulary vocabulary,
                                                Options options);

  // O(n * longest token).
  absl::Status Encode(absl::string_view piece, ModelScratch* scratch,
                      std::vector<int32_t>* ids) const override;
  std::optional<int32_t> Find(absl::string_view token) const override;
  void ForEachToken(
      absl::FunctionRef<void(absl::string_view, int32_t)> visit) const override;
  size_t size() const override { return vocabulary_.size(); }
  std::optional<size_t> longest_token() const override { return std::nullopt; }

 private:
  WordPieceModel() = default;

  TokenVocabulary vocabulary_;
  ByteTrie trie_;
  uint32_t continuing_node_ = ByteTrie::kRoot;  // after the prefix
  std::optional<int32_t> unknown_id_;
  Options options_;
};

class WordLevelModel : public TokenModel {
 public:
  // A vocabulary without `unknown_token` refuses unknown pieces.
  static std::unique_ptr<WordLevelModel> Create(
      TokenVocabulary vocabulary, absl::string_view unknown_token);

  absl::Status Encode(absl::string_view piece, ModelScratch* scratch,
                      std::vector<int32_t>* ids) const override;
  std::optional<int32_t> Find(absl::string_view token) const override;
  void ForEachToken(
      absl::FunctionRef<void(absl::string_view, int32_t)> visit) const override;
  size_t size() const override { return vocabulary_.size(); }
  std::optional<size_t> longest_token() const override { return std::nullopt; }

 private:
  WordLevelModel() = default;

  TokenVocabulary vocabulary_;
  std::optional<int32_t> unknown_id_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_WORD_PIECE_H_
