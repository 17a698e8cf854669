// The sequences that wait to be admitted, in fair order.
#ifndef DESCANT_RUNTIME_CORE_WAITING_QUEUE_H_
#define DESCANT_RUNTIME_CORE_WAITING_QUEUE_H_

#include <cstdint>
#include <vector>

#include "runtime/core/fairness.h"
#include "runtime/core/sequence.h"

namespace descant {

// Between tenants: lowest virtual token counter first, ties by arrival. Within
// a tenant: priority, then arrival. Links the sequences, does not own them.
// Thread-compatible.
class WaitingQueue {
 public:
  // `fairness` outlives the queue.
  explicit WaitingQueue(TokenFairness* fairness) : fairness_(fairness) {}

  // O(1) where the sequence belongs at its tenant's end, the usual case.
  void Push(Sequence* sequence);
  void Remove(Sequence* sequence);

  // One pass over the queue. Next() is the first candidate that was neither
  // skipped in this pass nor removed, or null. Counters may be charged and
  // candidates removed in between; Push ends the pass. O(tenants) a call.
  void BeginPass();
  Sequence* Next();
  // The candidate cannot run now; those behind it may.
  void Skip(Sequence* candidate);
  // None of the candidate's tenant may run in this pass, though they could:
  // the tenant stays backlogged.
  void Hold(Sequence* candidate);
  // The pass is over. Tenants all of whose candidates were skipped are not
  // backlogged (TokenFairness::PassedOver).
  void EndPass();

  // Candidates of one tenant that a pass looks at, one after the other; those
  // behind them wait, and no other tenant does.
  static constexpr int32_t kMaxSkipped = 256;

  // Who is first now, whether it can run or not; or null. O(tenants).
  Sequence* First() const;

  int32_t size() const { return size_; }
  int64_t tokens() const { return tokens_; }  // of prompts

  // In no particular order. `visit` must not change the queue.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const TokenFairness::Tenant tenant : queued_) {
      for (Sequence* s = lines_[tenant].head; s != nullptr; s = s->next) {
        visit(s);
      }
    }
  }

  void CheckInvariants() const;

 private:
  struct Line {
    Sequence* head = nullptr;
    Sequence* tail = nullptr;
    Sequence* cursor = nullptr;  // the tenant's candidate in this pass
    int32_t skipped = 0;         // in this pass
    bool held = false;           // in this pass
  };

  template <typename CandidateOf>  // Sequence*(const Line&)
  Sequence* Best(CandidateOf candidate_of) const;

  TokenFairness* const fairness_;
  std::vector<Line> lines_;                    // by tenant
  std::vector<TokenFairness::Tenant> queued_;  // those with a non-empty line
  int32_t size_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_WAITING_QUEUE_H_
