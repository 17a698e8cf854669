// What tenants have had since the server started.
#ifndef DESCANT_SERVER_TENANT_USAGE_H_
#define DESCANT_SERVER_TENANT_USAGE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "runtime/base/mutex.h"

namespace descant {

// Of generations. Each only grows.
struct TenantCounts {
  uint64_t requests = 0;  // admitted
  uint64_t refused = 0;   // by a limit of the tenant
  // Of prompts that came to their first token: all, and of these those found
  // in the prefix cache.
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;
  uint64_t generated_tokens = 0;
};

// Thread-safe.
class TenantUsage {
 public:
  // One tenant's. Counting takes no lock. Thread-safe.
  class Account {
   public:
    void Admitted() { Add(1, &requests_); }
    void Refused() { Add(1, &refused_); }
    void Started(uint64_t prompt_tokens, uint64_t cached_tokens) {
      Add(prompt_tokens, &prompt_tokens_);
      Add(cached_tokens, &cached_tokens_);
    }
    void Generated(uint64_t tokens) { Add(tokens, &generated_tokens_); }
    TenantCounts counts() const;

   private:
    static void Add(uint64_t more, std::atomic<uint64_t>* to) {
      to->fetch_add(more, std::memory_order_relaxed);
    }

    std::atomic<uint64_t> requests_{0};
    std::atomic<uint64_t> refused_{0};
    std::atomic<uint64_t> prompt_tokens_{0};
    std::atomic<uint64_t> cached_tokens_{0};
    std::atomic<uint64_t> generated_tokens_{0};
  };

  // Makes it where there is none; valid as long as this. `tenant` is one that
  // the operator named: callers can't make accounts.
  Account* AccountOf(absl::string_view tenant);
  // Zeros where there is none.
  TenantCounts CountsOf(absl::string_view tenant) const;

 private:
  mutable Mutex mutex_;
  absl::flat_hash_map<std::string, std::unique_ptr<Account>> accounts_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_TENANT_USAGE_H_
