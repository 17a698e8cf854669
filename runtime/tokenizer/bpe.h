// Byte pair encoding over a byte-level vocabulary (Sennrich et al.,
// arXiv:1508.07909; on bytes as in GPT-2).
#ifndef DESCANT_RUNTIME_TOKENIZER_BPE_H_
#define DESCANT_RUNTIME_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace descant {

// Buffers that Encode() reuses; one per thread.
struct BpeScratch {
  struct Symbol {
    int32_t id;  // -1: merged into the one before
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    uint32_t rank;
    int32_t position;
    int32_t merged_id;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
};

// Immutable; thread-safe.
class BpeModel {
 public:
  // Keys are spelled in the byte-level alphabet (byte_level.h).
  using Vocabulary = absl::flat_hash_map<std::string, int32_t>;
  using Merges = std::vector<std::pair<std::string, std::string>>;

  struct Options {
    // A piece that is a vocabulary entry becomes it without any merging.
    bool ignore_merges = false;
    // For bytes the vocabulary lacks; none: such bytes are dropped.
    std::optional<int32_t> unknown_id;
    bool fuse_unknown = false;
  };

  // `merges` by rank. INVALID_ARGUMENT when one names a token that the
  // vocabulary lacks.
  static absl::StatusOr<BpeModel> Create(Vocabulary vocabulary,
                                         const Merges& merges, Options options);

  // Appends the ids of one piece of raw bytes, shorter than 2^31, in
  // O(n log n).
  void Encode(absl::string_view piece, BpeScratch* scratch,
              std::vector<int32_t>* ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint32_t rank;
    int32_t merged_id;
  };

  BpeModel() = default;
  void FillSymbols(absl::string_view piece, BpeScratch* scratch) const;
  void PushPair(int32_t left, BpeScratch* scratch) const;
  const Merge* FindMerge(int32_t left_id, int32_t right_id) const;

  Vocabulary vocabulary_;
  // Key: left id in the upper half, right id in the lower.
  absl::flat_hash_map<uint64_t, Merge> merges_;
  std::array<int32_t, 256> byte_ids_;  // -1: not in the vocabulary
  size_t longest_token_ = 0;           // in the alphabet's UTF-8
  Options options_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_TOKENIZER_BPE_H_
