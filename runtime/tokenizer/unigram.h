// The Unigram language model (Kudo, arXiv:1804.10959): the segmentation of the
// highest probability.
#ifndef DESCANT_RUNTIME_TOKENIZER_UNIGRAM_H_
#define DESCANT_RUNTIME_TOKENIZER_UNIGRAM_H_

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "runtime/tokenizer/byte_trie.h"
#include "runtime/tokenizer/token_model.h"

namespace descant {

// Unknown characters cost ten more than the least likely token; neighbouring
// ones are one unknown token.
class UnigramModel : public TokenModel {
 public:
  struct Options {
    // None: text with unknown characters is refused.
    std::optional<int32_t> unknown_id;
    // Unknown text becomes the tokens "<0x00>" to "<0xFF>" of its bytes, if
    // the vocabulary has all of them.
    bool byte_fallback = false;
  };

  // (token, log probability) by id. Of two equal tokens the later one counts.
  // INVALID_ARGUMENT: an unknown_id beyond the vocabulary, a score that isn't
  // finite.
  static absl::StatusOr<std::unique_ptr<UnigramModel>> Create(
      std::vector<std::pair<std::string, double>> vocabulary, Options options);

  // Viterbi, O(n * longest token); of equal paths the one found first, as
  // Hugging Face does.
  absl::Status Encode(absl::string_view piece, ModelScratch* scratch,
                      std::vector<int32_t>* ids) const override;
  std::optional<int32_t> Find(absl::string_view token) const override;
  void ForEachToken(
      absl::FunctionRef<void(absl::string_view, int32_t)> visit) const override;
  size_t size() const override { return vocabulary_.size(); }
  std::optional<size_t> longest_token() const override { return std::nullopt; }

 private:
  UnigramModel() = default;
  absl::Status FindBestPath(absl::string_view piece,
                            ModelScratch* scratch) const;
  absl::Status AppendSpan(absl::string_view text,
                          std::vector<int32_t>* ids) const;

  std::vector<std::pair<std::string, double>> vocabulary_;
  ByteTrie trie_;
  std::array<int32_t, 256> fallback_ids_;  // -1: none
  double unknown_score_ = 0;
  Options options_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_UNIGRAM_H_
