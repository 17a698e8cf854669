#include "runtime/core/draft_budget.h"

#include <algorithm>

namespace descant {
namespace {

// Weight of one guess.
constexpr double kLearn = 0.2;

// Steps up to this size are told apart by every row, larger ones by eight.
constexpr int32_t kExactRows = 16;
// Of steps of one size, the last ones count: about so many.
constexpr double kRemembered = 32;
// A size with so many steps counts as much as one with more.
constexpr double kEnough = 8;
// Sizes that are this far from the one in question count half.
constexpr double kNear = 8;

// Before steps of different sizes were seen, a row is taken to cost this share
// of an empty step. It counts as one step that differs by a row.
constexpr double kPriorShare = 1.0 / 32;

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
  const int32_t index =
      rows <= kExactRows ? rows : kExactRows + (rows - kExactRows + 7) / 8;
  Size& size = sizes_[std::min<int32_t>(index, kSizes - 1)];
  if (size.steps >= kEnough) seconds = std::min(seconds, 2 * size.seconds);
  size.steps = std::min(size.steps + 1, kRemembered);
  size.rows += (rows - size.rows) / size.steps;
  size.seconds += (seconds - size.seconds) / size.steps;
}

double DraftBudget::LeastChance(int32_t decodes) const {
  double weight = 0;
  double rows = 0;
  double seconds = 0;
  const auto weight_of = [decodes](const Size& size) {
    const double away = (size.rows - decodes) / kNear;
    return std::min(size.steps, kEnough) / (1 + away * away);
  };
  for (const Size& size : sizes_) {
    weight += weight_of(size);
    rows += weight_of(size) * size.rows;
    seconds += weight_of(size) * size.seconds;
  }
  if (weight == 0) {
    return kMargin * decodes * kPriorShare / (1 + decodes * kPriorShare);
  }
  rows /= weight;
  seconds /= weight;
  double variance = 0;
  double covariance = 0;
  for (const Size& size : sizes_) {
    const double away = size.rows - rows;
    variance += weight_of(size) * away * away;
    covariance += weight_of(size) * away * (size.seconds - seconds);
  }
  const double usual = seconds / (1 / kPriorShare + rows);
  // No row is free, and none costs more than a step of it alone.
  const double each = std::clamp((covariance + usual) / (variance + 1),
                                 usual / 16, seconds / std::max(rows, 1.0));
  const double plain =
      std::max(seconds + each * (decodes - rows), seconds / 16);
  return kMargin * each * decodes / plain;
}

}  // namespace descant
