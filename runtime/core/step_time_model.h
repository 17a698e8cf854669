// How long a step will take, learned from those that were measured.
#ifndef DESCANT_RUNTIME_CORE_STEP_TIME_MODEL_H_
#define DESCANT_RUNTIME_CORE_STEP_TIME_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace descant {

// What a step computes.
struct StepWork {
  int32_t rows = 0;
  int64_t adapter_bytes = 0;    // of the distinct adapters of its rows
  int64_t attended_tokens = 0;  // summed over rows, each one's own included

  // `count` rows of one sequence, from position `begin` on.
  void AddRows(int32_t begin, int32_t count) {
    rows += count;
    attended_tokens +=
        int64_t{count} * begin + int64_t{count} * (count + 1) / 2;
  }
};

// seconds = c0 + c1 rows + c2 adapter bytes + c3 attended tokens, no
// coefficient below zero: least squares over the steps observed, the last
// fifty or so weighing most. A step far from what was expected weighs less
// (Huber, "Robust estimation of a location parameter", 1964), so one stall
// changes little and a lasting change is followed within 200 steps.
// What recent steps say nothing about (decodes only: how much a row costs)
// stays as it was. Deterministic: the same calls give the same answers.
// Allocates nothing. Thread-compatible.
class StepTimeModel {
 public:
  // Whether there were enough steps for Predict to mean something.
  bool fitted() const { return observed_ >= kFirstSteps; }

  // The step took `seconds` >= 0; values that are not finite are ignored.
  void Observe(const StepWork& work, double seconds);

  // In seconds, >= 0. Without a step observed: 0.
  double Predict(const StepWork& work) const;

  // How many rows of a sequence, from position `begin` on, may join a step that
  // has `work` already so that it takes at most `target` seconds, less what
  // predictions are usually wrong by. In [0, most], and at most twice the rows
  // of the largest step seen: what is far from all that was measured is
  // approached in steps. Until the model is fitted: at most kFirstRows.
  int32_t RowsWithin(double target, const StepWork& work, int32_t begin,
                     int32_t most) const;

  // What predictions are wrong by, on average and recently. In seconds.
  double error() const { return error_; }

  static constexpr int32_t kFirstRows = 32;

 private:
  static constexpr int kTerms = 4;
  static constexpr int64_t kFirstSteps = 8;
  using Vector = std::array<double, kTerms>;

  static Vector Terms(const StepWork& work);
  double Weigh(double residual) const;
  void Solve();

  int64_t observed_ = 0;
  int32_t largest_ = 0;  // rows of a step
  double error_ = 0;
  // Of the normal equations, older steps fading; and their solution. For
  // Terms(), which are scaled to be of like size.
  std::array<Vector, kTerms> moments_{};
  Vector right_{};
  Vector coefficients_{};
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_STEP_TIME_MODEL_H_
