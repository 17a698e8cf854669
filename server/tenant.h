// One tenant, as the operator's file says: its share, its roles, its limits.
#ifndef DESCANT_SERVER_TENANT_H_
#define DESCANT_SERVER_TENANT_H_

#include <cstdint>
#include <string>

#include "adapters/slot_limits.h"
#include "adapters/store_quota.h"

namespace descant {

// What a key may be used for; bits of a set.
enum class Role : uint32_t {
  kGenerate = 1,        // generate, tokenize, read adapters
  kManageAdapters = 2,  // upload, replace, roll back, delete, download
  kOperator = 4,        // AdminService
};

class Roles {
 public:
  constexpr Roles() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): one role is a set of roles
  constexpr Roles(Role role) : bits_(static_cast<uint32_t>(role)) {}
  constexpr bool HasAny(Roles roles) const {
    return (bits_ & roles.bits_) != 0;
  }
  constexpr bool empty() const { return bits_ == 0; }
  friend constexpr Roles operator|(Roles a, Roles b) {
    a.bits_ |= b.bits_;
    return a;
  }

 private:
  uint32_t bits_ = 0;
};

// 0: no limit of its own; the server's hold whatever these are.
struct TenantLimits {
  // Of requests, and of tokens of prompts and answers together. A second's
  // worth may come at once.
  double requests_per_second = 0;
  double tokens_per_second = 0;
  int32_t sequences = 0;      // answers under way, those that wait included
  int64_t queued_tokens = 0;  // of prompts without a first token
  StoreQuota store;           // adapters, bytes, uploads in flight
  int32_t adapter_rank = 0;
  SlotLimits slots;
  int32_t cached_blocks = 0;  // of prompts that nobody uses: prefix_cache.h
};

struct Tenant {
  std::string id;      // "" where tenants are off
  int32_t weight = 1;  // see runtime/core/fairness.h
  Roles roles = Roles(Role::kGenerate) | Role::kManageAdapters;
  TenantLimits limits;
};

}  // namespace descant

#endif  // DESCANT_SERVER_TENANT_H_
