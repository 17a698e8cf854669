// What turns one piece of text into token ids: byte pair encoding (bpe.h),
// WordPiece and WordLevel (word_piece.h) or Unigram (unigram.h).
#ifndef DESCANT_RUNTIME_TOKENIZER_TOKEN_MODEL_H_
#define DESCANT_RUNTIME_TOKENIZER_TOKEN_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace descant {

// Buffers that Encode() reuses, for all kinds of model; one per thread.
struct ModelScratch {
  struct Symbol {  // of byte pair encoding
    int32_t id;    // -1: merged into the one before
    int32_t previous;
    int32_t next;
  };
  struct Candidate {  // a pair that may merge
    uint32_t rank;
    int32_t position;
    int32_t merged_id;
  };
  struct PathEnd {  // of Unigram: the best path that ends at a byte
    double score;
    int32_t start;  // -1: none yet
    int32_t id;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<PathEnd> ends;
  std::vector<std::pair<int32_t, int32_t>> spans;
  std::string text;
};

// Keys are spelled as the file spells them.
using TokenVocabulary = absl::flat_hash_map<std::string, int32_t>;

// Immutable; thread-safe.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  // Appends the ids of one non-empty piece, shorter than 2^31 bytes and valid
  // UTF-8 (raw bytes for a BpeModel with Options::byte_level).
  // INVALID_ARGUMENT: the piece has what the vocabulary lacks, and there is no
  // unknown token.
  virtual absl::Status Encode(absl::string_view piece, ModelScratch* scratch,
                              std::vector<int32_t>* ids) const = 0;

  // By the file's spelling.
  virtual std::optional<int32_t> Find(absl::string_view token) const = 0;

  // Every token with its id, in no particular order.
  virtual void ForEachToken(
      absl::FunctionRef<void(absl::string_view token, int32_t id)> visit)
      const = 0;

  // Number of tokens; ids may go beyond it.
  virtual size_t size() const = 0;

  // Most bytes of text that one token can stand for (but for single bytes that
  // a byte-level vocabulary lacks and drops); none: no bound, for instance
  // because one unknown token covers a whole word.
  virtual std::optional<size_t> longest_token() const = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_TOKEN_MODEL_H_
