// An adapter merged into the base model: W = round(fp32(W0) + scale B A),
// rounded once, in memory of its own. W0 is never written to.
#ifndef DESCANT_RUNTIME_MODEL_MERGED_WEIGHTS_H_
#define DESCANT_RUNTIME_MODEL_MERGED_WEIGHTS_H_

#include <algorithm>
#include <cstdint>

namespace descant {

// Weights of a runner that hold one adapter. Immutable; frees its memory when
// the last std::shared_ptr goes, on any thread, but not while a step uses it.
class MergedWeights {
 public:
  virtual ~MergedWeights() = default;
  // What it takes beside the base model's weights.
  virtual uint64_t bytes() const = 0;
};

// The memory for merged weights is for so many adapters on all modules, where
// nobody chose it.
inline constexpr uint64_t kUsualMerges = 2;

// How far the log-probabilities of two computations of one batch are apart:
// over the five likeliest tokens, by the second one, of every output.
struct LogprobDifference {
  int32_t outputs = 0;
  bool finite = true;  // all values were
  float largest = 0;   // of the differences' magnitudes, natural logarithm
  int32_t flips = 0;   // outputs whose likeliest token differs
  // Of those, the largest distance that the second computation saw between the
  // two tokens.
  float widest_flip = 0;

  void Add(const LogprobDifference& other) {
    outputs += other.outputs;
    finite = finite && other.finite;
    largest = std::max(largest, other.largest);
    flips += other.flips;
    widest_flip = std::max(widest_flip, other.widest_flip);
  }
};

// What merged and unmerged log-probabilities may differ by before the merged
// weights are refused; and how far a flip's two tokens may be apart.
inline constexpr float kMergeTolerance = 0.6f;

inline bool WithinMergeTolerance(const LogprobDifference& difference) {
  return difference.finite && difference.largest <= kMergeTolerance &&
         difference.widest_flip <= kMergeTolerance;
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_MERGED_WEIGHTS_H_
