#include "runtime/model/logprob_comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/model/vector_math.h"

namespace descant {
namespace {

constexpr size_t kCompared = 5;

// What is subtracted from a logit to get its log-probability.
double LogSumExp(absl::Span<const float> logits, float largest) {
  std::array<float, 1024> exponentials;
  double sum = 0;
  for (size_t at = 0; at < logits.size(); at += exponentials.size()) {
    const auto some = logits.subspan(at, exponentials.size());
    const auto out = absl::MakeSpan(exponentials).first(some.size());
    ExpShifted(some, largest, 1, out);
    sum += SumInOrder(out);
  }
  return static_cast<double>(largest) + std::log(sum);
}

// Indices of the largest values; of equal ones the lowest. Few values get past
// the comparison with the least of them.
absl::Span<const size_t> FindLargest(absl::Span<const float> values,
                                     std::array<size_t, kCompared>* found) {
  size_t count = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (count == kCompared) {
      if (!(values[i] > values[(*found)[count - 1]])) continue;
      --count;
    }
    (*found)[count] = i;
    for (size_t at = count++; at > 0; --at) {
      if (!(values[i] > values[(*found)[at - 1]])) break;
      std::swap((*found)[at], (*found)[at - 1]);
    }
  }
  return absl::MakeConstSpan(*found).first(count);
}

}  // namespace

LogprobDifference CompareLogits(absl::Span<const float> first,
                                absl::Span<const float> second) {
  DESCANT_CHECK(first.size() == second.size());
  LogprobDifference difference;
  difference.outputs = 1;
  const ArgMax first_best = FindArgMax(first);
  const ArgMax second_best = FindArgMax(second);
  difference.finite = first_best.finite && second_best.finite;
  if (!difference.finite) return difference;
  const double first_sum = LogSumExp(first, first_best.value);
  const double second_sum = LogSumExp(second, second_best.value);
  std::array<size_t, kCompared> found;
  for (const size_t token : FindLargest(second, &found)) {
    const double distance = (static_cast<double>(first[token]) - first_sum) -
                            (static_cast<double>(second[token]) - second_sum);
    difference.largest =
        std::max(difference.largest, static_cast<float>(std::abs(distance)));
  }
  if (first_best.index != second_best.index) {
    difference.flips = 1;
    difference.widest_flip = second_best.value - second[first_best.index];
  }
  return difference;
}

}  // namespace descant
