#include "runtime/core/draft_budget.h"

#include <algorithm>

namespace descant {
namespace {

// Weight of one guess.
constexpr double kLearn = 0.2;

// A step's weight against that of the one after it is 1 - kForget.
constexpr double kForget = 0.01;
// Before steps of different sizes were seen, a row is taken to cost this share
// of an empty step. It counts as much as one step that differs from the others
// by kPriorRows.
constexpr double kPriorShare = 1.0 / 32;
constexpr double kPriorRows = 4;
// Steps before stalls are told from what is usual.
constexpr double kFewSteps = 8;

// A draft must bring this many times what it costs: neither is known exactly,
// and others wait for the step too.
constexpr double kMargin = 1.5;

}  // namespace

void DraftAcceptance::Observe(int32_t right, bool wrong) {
  for (int32_t i = 0; i < right; ++i) chance_ += kLearn * (1 - chance_);
  if (wrong) chance_ -= kLearn * chance_;
}

void DraftBudget::Observe(int32_t rows, double seconds) {
  if (seconds <= 0) return;  // a clock that stands says nothing
  if (weight_ > kFewSteps) seconds = std::min(seconds, 2 * SecondsOf(rows));
  weight_ = weight_ * (1 - kForget) + 1;
  const double share = 1 / weight_;
  const double by_rows = rows - rows_;
  const double by_seconds = seconds - seconds_;
  rows_ += share * by_rows;
  seconds_ += share * by_seconds;
  variance_ += share * (by_rows * (rows - rows_) - variance_);
  covariance_ += share * (by_rows * (seconds - seconds_) - covariance_);
}

double DraftBudget::SecondsOfRow() const {
  const double prior = kPriorRows * kPriorRows / std::max(weight_, 1.0);
  const double usual = seconds_ / (1 / kPriorShare + rows_);
  const double fitted = (covariance_ + prior * usual) / (variance_ + prior);
  // No row is free, and none costs more than a step of it alone.
  return std::clamp(fitted, usual / 16, seconds_ / std::max(rows_, 1.0));
}

double DraftBudget::SecondsOf(double rows) const {
  return std::max(seconds_ + SecondsOfRow() * (rows - rows_), seconds_ / 16);
}

double DraftBudget::LeastChance(int32_t decodes) const {
  if (weight_ == 0) {
    return kMargin * decodes * kPriorShare / (1 + decodes * kPriorShare);
  }
  return kMargin * SecondsOfRow() * decodes / SecondsOf(decodes);
}

}  // namespace descant
