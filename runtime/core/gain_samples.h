// What a change saves of a step, from pairs of measurements.
#ifndef DESCANT_RUNTIME_CORE_GAIN_SAMPLES_H_
#define DESCANT_RUNTIME_CORE_GAIN_SAMPLES_H_

#include <array>
#include <cstdint>

namespace descant {

// The last kMost samples. Order statistics: a stall in one of a pair moves
// them little. Allocates nothing. Thread-compatible.
class GainSamples {
 public:
  static constexpr int32_t kMost = 31;

  // A pair: the step took `with_seconds` changed, `without_seconds` as it was.
  // Times that are not positive and finite are ignored.
  void Add(double with_seconds, double without_seconds);
  void Clear() { count_ = next_ = 0; }

  int32_t count() const { return count_; }
  // The part of the time that is saved; below zero: it costs. REQUIRES: count()
  // is not 0.
  double median() const;
  // As far below and above the median as it may be wrong: 2.5 of its standard
  // deviations, counted in ranks. So samples that are as often above zero as
  // below it have a low() above zero, or a high() below it, once in some
  // hundred times.
  double low() const { return At((count_ - 1) / 2 - Reach()); }
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
