// Virtual token counters: who has been served how much.
//
// Source: Sheng et al., "Fairness in Serving Large Language Models" (OSDI
// 2024). Keyed by tenant, so that many adapters do not buy many shares.
#ifndef DESCANT_RUNTIME_CORE_FAIRNESS_H_
#define DESCANT_RUNTIME_CORE_FAIRNESS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace descant {

// Cost of a token.
inline constexpr int64_t kPromptTokenCost = 1;
inline constexpr int64_t kOutputTokenCost = 2;
// What a cost of 1 adds to the counter of a tenant of weight 1.
inline constexpr int64_t kCounterUnit = int64_t{1} << 24;
inline constexpr int32_t kMaxTenantWeight = 1000;
// Cost that a tenant may be owed from when its requests waited for slots or
// loads: what it did not get then it gets first, up to this.
inline constexpr int64_t kMaxArrears = 4096;
// Cost that a tenant may be owed when it returns from having nothing queued: a
// small burst of one that got less than others goes first.
inline constexpr int64_t kMaxCredit = 1024;
// Cost that a tenant which runs less than its share of sequences may be ahead
// of one that runs its share, and whose turn it is, when it overtakes it.
inline constexpr int64_t kMaxLead = 1024;

// One counter a tenant: the cost of what it got, divided by its weight. The
// next request to admit is one of the queued tenant with the lowest counter
// that can run.
//
// Backlogged = has a request whose adapter is READY; waiting for a load is
// bounded separately by 2 s. READY: the base model, or an adapter that is
// loaded and has its slot, or could have it now. A tenant none of whose
// adapters was is backlogged again when the admission, which goes by counters,
// comes to it and finds one. Of two tenants that stay backlogged, one's counter
// is ahead of the other's by at most its own
//   bound = (kPromptTokenCost * its longest prompt + kOutputTokenCost * the
//            most tokens that its running sequences may still generate
//            + kMaxLead) / its weight,
// and over any time what two of them get, over their weights, differs by at
// most twice the larger bound, and what one was owed at its beginning (at most
// kMaxArrears over its weight, or kMaxCredit). Priorities, which order a
// tenant's own requests, change no tenant's bound. Speculation adds nothing: a
// token is charged when it is sampled, several of a step together; wrong drafts
// are not charged, and get only rows that nobody else wants.
// tests/sim/fairness_bound.h asserts it. Thread-compatible.
class TokenFairness {
 public:
  // Index into a table that is reused: valid from Enter to the matching Leave.
  using Tenant = int32_t;

  // A request of the tenant came, or went (finished, not merely admitted). The
  // last weight that was given, in [1, kMaxTenantWeight], counts from now on.
  Tenant Enter(absl::string_view name, int32_t weight = 1);
  void Leave(Tenant tenant);

  // A request of the tenant joined or left the queue. Joining with nothing
  // queued lifts the counter to kMaxCredit less than the level: the lowest
  // counter of the backlogged tenants (or, with none, that of the last one that
  // was), which only rises. So idle time buys that much and no more.
  void Queued(Tenant tenant);
  void Unqueued(Tenant tenant);

  // None of the tenant's queued requests could run for its adapter: it is not
  // backlogged. REQUIRES: it has queued ones.
  void PassedOver(Tenant tenant);
  bool passed_over(Tenant tenant) const { return entries_[tenant].passed_over; }
  // One of them can. The first time after PassedOver the counter is lifted as
  // by Queued, but to kMaxArrears less than the level: who waited for slots
  // that others held is owed what it did not get. Whether that changed it.
  bool Ready(Tenant tenant);

  void ChargePrompt(Tenant tenant, int64_t tokens) {
    Charge(tenant, kPromptTokenCost * tokens);
  }
  void ChargeOutput(Tenant tenant, int64_t tokens) {
    Charge(tenant, kOutputTokenCost * tokens);
  }

  // What a cost adds to the tenant's counter.
  int64_t Charged(Tenant tenant, int64_t cost) const {
    return cost * kCounterUnit / entries_[tenant].weight;
  }

  // Of the tenant, over those of all that have requests.
  double ShareOf(Tenant tenant) const {
    return static_cast<double>(entries_[tenant].weight) /
           static_cast<double>(weights_);
  }

  // In kCounterUnit.
  int64_t counter(Tenant tenant) const { return entries_[tenant].counter; }
  const std::string& name(Tenant tenant) const { return entries_[tenant].name; }
  // Tenants with a counter, idle ones included.
  int32_t size() const { return static_cast<int32_t>(index_.size()); }

 private:
  struct Entry {
    std::string name;
    int64_t counter = 0;
    int32_t weight = 1;
    int32_t requests = 0;  // between Enter and Leave
    int32_t queued = 0;
    bool passed_over = false;
    bool was_ready = false;  // since it was passed over, or joined
  };
  void Charge(Tenant tenant, int64_t cost) {
    entries_[tenant].counter += Charged(tenant, cost);
  }
  int64_t Level();
  void Prune();

  std::vector<Entry> entries_;
  std::vector<Tenant> free_;
  absl::flat_hash_map<std::string, Tenant> index_;
  int64_t weights_ = 0;    // of tenants between Enter and Leave
  int64_t level_ = 0;      // when it was asked for last
  int64_t last_left_ = 0;  // counter of the last tenant that was backlogged
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_FAIRNESS_H_
