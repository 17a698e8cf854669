// Byte pair encoding (Sennrich et al., arXiv:1508.07909), over bytes as in
// GPT-2, over characters, or as SentencePiece orders it, by scores.
#ifndef DESCANT_RUNTIME_TOKENIZER_BPE_H_
#define DESCANT_RUNTIME_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/tokenizer/token_model.h"

namespace descant {

class BpeModel : public TokenModel {
 public:
  using Vocabulary = TokenVocabulary;
  using Merges = std::vector<std::pair<std::string, std::string>>;

  struct Options {
    // Pieces are raw bytes and the vocabulary spells them in the byte-level
    // alphabet (byte_level.h). False: pieces are characters.
    bool byte_level = true;
    // A piece that is a vocabulary entry becomes it without any merging.
    bool ignore_merges = false;
    // For what the vocabulary lacks; none: it is dropped.
    std::optional<int32_t> unknown_id;
    // Such text is an error instead (an unknown token that isn't a token).
    bool refuse_unknown = false;
    bool fuse_unknown = false;
    // Characters that the vocabulary lacks become the tokens "<0x00>" to
    // "<0xFF>" of their bytes, if it has all of them. Not with byte_level.
    bool byte_fallback = false;
    // Put before every character but a piece's first; after its last one.
    // Not with byte_level.
    std::string continuing_subword_prefix;
    std::string end_of_word_suffix;
  };

  // `merges` by rank. INVALID_ARGUMENT when one names a token that the
  // vocabulary lacks.
  static absl::StatusOr<std::unique_ptr<BpeModel>> Create(Vocabulary vocabulary,
                                                          const Merges& merges,
                                                          Options options);

  // SentencePiece's BPE (Kudo and Richardson, arXiv:1808.06226), as GGUF
  // stores it: any two neighbours whose concatenation is a token may merge,
  // the highest score first, of equal scores the leftmost. `scores` by id;
  // tokens in `unmergeable` (by id; empty: none) come out of no merge.
  // INVALID_ARGUMENT: a score that is missing or not finite.
  static absl::StatusOr<std::unique_ptr<BpeModel>> CreateFromScores(
      Vocabulary vocabulary, absl::Span<const float> scores,
      const std::vector<bool>& unmergeable, Options options);

  // O(n log n).
  absl::Status Encode(absl::string_view piece, ModelScratch* scratch,
                      std::vector<int32_t>* ids) const override;
  std::optional<int32_t> Find(absl::string_view token) const override;
  void ForEachToken(
      absl::FunctionRef<void(absl::string_view, int32_t)> visit) const override;
  size_t size() const override { return vocabulary_.size(); }
  std::optional<size_t> longest_token() const override;

 private:
  struct Merge {
    uint32_t rank;
    int32_t merged_id;
  };

  BpeModel() = default;
  void Index(Vocabulary vocabulary, Options options);
  void AddSymbol(int32_t id, ModelScratch* scratch) const;
  absl::Status FillFromBytes(absl::string_view piece,
                             ModelScratch* scratch) const;
  absl::Status FillFromCharacters(absl::string_view piece,
                                  ModelScratch* scratch) const;
  bool AddBytes(absl::string_view bytes, ModelScratch* scratch) const;
  // Appends the unknown token at hand, if any, and starts the next one.
  absl::Status AddUnknown(std::optional<int32_t>* pending,
                          ModelScratch* scratch) const;
  void MergeAll(ModelScratch* scratch) const;
  void PushPair(int32_t left, ModelScratch* scratch) const;
  const Merge* FindMerge(int32_t left_id, int32_t right_id) const;

  Vocabulary vocabulary_;
  // Key: left id in the upper half, right id in the lower.
  absl::flat_hash_map<uint64_t, Merge> merges_;
  std::array<int32_t, 256> byte_ids_;      // byte_level; -1: none
  std::array<int32_t, 256> fallback_ids_;  // "<0x00>" and so on; -1: none
  size_t longest_token_ = 0;               // in bytes of text
  Options options_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_BPE_H_
