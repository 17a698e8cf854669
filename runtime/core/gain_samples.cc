#include "runtime/core/gain_samples.h"

#include <algorithm>
#include <cmath>

#include "runtime/base/check.h"

namespace descant {

void GainSamples::Add(double with_seconds, double without_seconds) {
  if (!(with_seconds > 0) || !(without_seconds > 0) ||
      !std::isfinite(with_seconds) || !std::isfinite(without_seconds)) {
    return;
  }
  samples_[next_] = 1 - with_seconds / without_seconds;
  next_ = (next_ + 1) % kMost;
  count_ = std::min(count_ + 1, kMost);
}

double GainSamples::median() const {
  return (At((count_ - 1) / 2) + At(count_ / 2)) / 2;
}

// Of n samples the number above the true median has a standard deviation of
// sqrt(n) / 2.
int32_t GainSamples::Reach() const {
  return static_cast<int32_t>(std::lround(2.5 * std::sqrt(count_) / 2));
}

double GainSamples::At(int32_t rank) const {
  DESCANT_CHECK(count_ > 0);
  std::array<double, kMost> sorted = samples_;
  rank = std::clamp(rank, 0, count_ - 1);
  std::nth_element(sorted.begin(), sorted.begin() + rank,
                   sorted.begin() + count_);
  return sorted[rank];
}

}  // namespace descant
