// Which drafts pay: what a row more costs a step, and what it may bring.
#ifndef DESCANT_RUNTIME_CORE_DRAFT_BUDGET_H_
#define DESCANT_RUNTIME_CORE_DRAFT_BUDGET_H_

#include <cstdint>

namespace descant {

// How often a sequence's guesses were right lately: the chance that the next
// token of a draft is, given those before it were. Guesses that were not tried
// count too, as the token that came shows whether they were right; so a
// sequence that was not worth drafts is noticed when it becomes so.
class DraftAcceptance {
 public:
  // The first `right` of the guesses were right, and, where `wrong`, the one
  // after them was not.
  void Observe(int32_t right, bool wrong);
  double chance() const { return chance_; }

 private:
  double chance_ = 0.5;  // nothing is known
};

// Steps' durations as a line over their rows, fitted as they come, older ones
// counting less: seconds = fixed + rows * each. Few rows are nearly free where
// reading the weights is what takes the time, and cost in full where it is the
// arithmetic; the line tells which. Thread-compatible.
class DraftBudget {
 public:
  // A step of `rows` rows, each of which gave logits, took so long. A stall
  // (the machine was busy elsewhere) is taken for a step of at most twice what
  // was expected.
  void Observe(int32_t rows, double seconds);

  // A draft is worth its row if it is right with at least this chance, beside
  // `decodes` tokens that the step yields anyway: it then saves at least what
  // it costs. Saved is a token's share in a step without drafts. Up to
  // kMargin, and more than 1 where no draft pays.
  double LeastChance(int32_t decodes) const;

 private:
  double SecondsOf(double rows) const;
  double SecondsOfRow() const;

  // Weighted means and second moments; the weights sum up to weight_, which
  // tends to 1 / kForget.
  double weight_ = 0;
  double rows_ = 0;
  double seconds_ = 0;
  double variance_ = 0;
  double covariance_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_DRAFT_BUDGET_H_
