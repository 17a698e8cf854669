#include "runtime/core/step_time_model.h"

#include <algorithm>
#include <cmath>

namespace descant {
namespace {

// What one step leaves of the weight of those before it.
constexpr double kFading = 0.98;
// Residuals beyond so many usual errors weigh less.
constexpr double kUsual = 3;
// How fast the usual error follows.
constexpr double kErrorRate = 0.05;
// Pulls the solution to the last one where the steps say nothing, as a part of
// the weight of all steps.
constexpr double kInertia = 1e-4;
// Times below it are noise of the clock, in seconds.
constexpr double kShortest = 1e-4;
// The safety margin is never more than this part of the target.
constexpr double kMostMargin = 0.25;
constexpr int kSweeps = 32;

}  // namespace

StepTimeModel::Vector StepTimeModel::Terms(const StepWork& work) {
  return {1.0, static_cast<double>(work.rows) / 64,
          static_cast<double>(work.adapter_bytes) / (1 << 25),
          static_cast<double>(work.attended_tokens) / (1 << 14)};
}

double StepTimeModel::Predict(const StepWork& work) const {
  const Vector terms = Terms(work);
  double seconds = 0;
  for (int i = 0; i < kTerms; ++i) seconds += coefficients_[i] * terms[i];
  return seconds;
}

double StepTimeModel::Weigh(double residual) const {
  const double usual = kUsual * std::max(error_, kShortest);
  return !fitted() || residual <= usual ? 1 : usual / residual;
}

void StepTimeModel::Observe(const StepWork& work, double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return;
  const double residual = std::abs(seconds - Predict(work));
  // Long steps vary more than short ones: about as their time does.
  const double weight = Weigh(residual) / std::max(seconds, kShortest);
  if (fitted()) {
    const double most = 2 * kUsual * std::max(error_, kShortest);
    error_ += kErrorRate * (std::min(residual, most) - error_);
  }
  const Vector terms = Terms(work);
  for (int i = 0; i < kTerms; ++i) {
    right_[i] = kFading * right_[i] + weight * terms[i] * seconds;
    for (int j = 0; j < kTerms; ++j) {
      moments_[i][j] = kFading * moments_[i][j] + weight * terms[i] * terms[j];
    }
  }
  ++observed_;
  largest_ = std::max(largest_, work.rows);
  Solve();
}

// Projected Gauss-Seidel on the normal equations, from the last solution.
void StepTimeModel::Solve() {
  const Vector last = coefficients_;
  const double inertia = kInertia * moments_[0][0];
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (int i = 0; i < kTerms; ++i) {
      double rest = right_[i] + inertia * last[i];
      for (int j = 0; j < kTerms; ++j) {
        if (j != i) rest -= moments_[i][j] * coefficients_[j];
      }
      coefficients_[i] = std::max(0.0, rest / (moments_[i][i] + inertia));
    }
  }
}

int32_t StepTimeModel::RowsWithin(double target, const StepWork& work,
                                  int32_t begin, int32_t most) const {
  if (!fitted()) return std::clamp(kFirstRows - work.rows, 0, most);
  const int64_t seen = 2 * int64_t{std::max(largest_, kFirstRows / 2)};
  int32_t low = 0;
  int32_t high =
      static_cast<int32_t>(std::clamp<int64_t>(seen - work.rows, 0, most));
  const double limit = target - std::min(error_, kMostMargin * target);
  // Grows with the rows: no coefficient is below zero.
  while (low < high) {
    const int32_t rows = low + (high - low + 1) / 2;
    StepWork more = work;
    more.AddRows(begin, rows);
    if (Predict(more) <= limit) {
      low = rows;
    } else {
      high = rows - 1;
    }
  }
  return low;
}

}  // namespace descant
