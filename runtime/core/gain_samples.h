// What a change saves of a step, from pairs of measurements.
#ifndef DESCANT_RUNTIME_CORE_GAIN_SAMPLES_H_
#define DESCANT_RUNTIME_CORE_GAIN_SAMPLES_H_

#include <array>
#include <cstdint>

namespace descant {

// The last kMost samples. Order statistics: a stall in one of a pair moves
// nothing. Allocates nothing. Thread-compatible.
class GainSamples {
 public:
  static constexpr int32_t kMost = 15;

  // A pair: the step took `with_seconds` changed, `without_seconds` as it was.
  // Times that are not positive are ignored.
  void Add(double with_seconds, double without_seconds);
  void Clear() { count_ = next_ = 0; }

  int32_t count() const { return count_; }
  // The part of the time that is saved; below zero: it costs. REQUIRES: count()
  // is not 0.
  double median() const { return At(count_ / 2); }
  // About as far below and above the median as it may be wrong: a distance of
  // half the square root of count(), in ranks.
  double low() const { return At(count_ / 2 - Reach()); }
  double high() const { return At(count_ / 2 + Reach()); }

 private:
  int32_t Reach() const;
  double At(int32_t rank) const;

  std::array<double, kMost> samples_{};
  int32_t count_ = 0;
  int32_t next_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_GAIN_SAMPLES_H_
