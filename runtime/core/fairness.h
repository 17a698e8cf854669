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

// Cost of a token in a tenant's counter.
inline constexpr int64_t kPromptTokenCost = 1;
inline constexpr int64_t kOutputTokenCost = 2;

// One counter a tenant, all weights equal. The next request to admit is one of
// the queued tenant with the lowest counter. Among tenants that stay queued,
// counters then differ by at most about
//   max(kPromptTokenCost * longest prompt,
//       kOutputTokenCost * tokens the running sequences may still generate),
// and service received by at most twice that. Thread-compatible.
class TokenFairness {
 public:
  // Index into a table that is reused: valid from Enter to the matching Leave.
  using Tenant = int32_t;

  // A request of the tenant came, or went (finished, not merely admitted).
  Tenant Enter(absl::string_view name);
  void Leave(Tenant tenant);

  // A request of the tenant joined or left the queue. Joining with nothing
  // queued lifts the counter to the lowest one of the queued tenants (or, with
  // none queued, to that of the last one that left): idle time buys nothing.
  void Queued(Tenant tenant);
  void Unqueued(Tenant tenant);

  void ChargePrompt(Tenant tenant, int64_t tokens) {
    entries_[tenant].counter += kPromptTokenCost * tokens;
  }
  void ChargeOutput(Tenant tenant, int64_t tokens) {
    entries_[tenant].counter += kOutputTokenCost * tokens;
  }

  int64_t counter(Tenant tenant) const { return entries_[tenant].counter; }
  const std::string& name(Tenant tenant) const { return entries_[tenant].name; }
  // Tenants with a counter, idle ones included.
  int32_t size() const { return static_cast<int32_t>(index_.size()); }

 private:
  struct Entry {
    std::string name;
    int64_t counter = 0;
    int32_t requests = 0;  // between Enter and Leave
    int32_t queued = 0;
  };
  int64_t Floor() const;
  void Prune();

  std::vector<Entry> entries_;
  std::vector<Tenant> free_;
  absl::flat_hash_map<std::string, Tenant> index_;
  int64_t last_left_ = 0;  // counter of the tenant that last left the queue
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_FAIRNESS_H_
