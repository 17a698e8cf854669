// Which drafts pay: what a row more costs a step, and what it may bring.
#ifndef DESCANT_RUNTIME_CORE_DRAFT_BUDGET_H_
#define DESCANT_RUNTIME_CORE_DRAFT_BUDGET_H_

#include <array>
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

// What a row costs, from how long steps of each size took: the slope of a line
// through those near the size in question. Few rows are nearly free where
// reading the weights is what takes the time, and cost in full where it is the
// arithmetic; the line tells which. Thread-compatible.
class DraftBudget {
 public:
  // A step of `rows` rows, each of which gave logits, took so long. A stall
  // (the machine was busy elsewhere) is taken for twice the usual time.
  void Observe(int32_t rows, double seconds);

  // A draft is worth its row if it is right with at least this chance, beside
  // `decodes` tokens that the step yields anyway: it then saves somewhat more
  // than it costs. What a token saves is its share of a step without drafts.
  // Above 1: no draft pays.
  double LeastChance(int32_t decodes) const;

 private:
  static constexpr int32_t kSizes = 32;
  // Steps of about one size: how many, at most those that count, and means.
  struct Size {
    double steps = 0;
    double rows = 0;
    double seconds = 0;
  };
  std::array<Size, kSizes> sizes_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_DRAFT_BUDGET_H_
