// What a store keeps for its tenants and what it has promised to uploads in
// flight, against limits.
#ifndef DESCANT_ADAPTERS_STORE_QUOTA_H_
#define DESCANT_ADAPTERS_STORE_QUOTA_H_

#include <cstdint>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace descant {

// 0: no limit.
struct StoreQuota {
  int64_t max_adapters = 0;  // names
  // Of safetensors files, those of uploads in flight included. A file that
  // several versions of a tenant share counts once.
  uint64_t max_bytes = 0;
  uint64_t max_staged_bytes = 0;  // of uploads in flight
  int32_t max_uploads = 0;        // in flight
};

struct StoreUsage {
  int64_t adapters = 0;  // and those that uploads in flight will make
  uint64_t stored_bytes = 0;
  uint64_t staged_bytes = 0;  // as declared
  int32_t uploads = 0;

  StoreUsage& operator+=(const StoreUsage& other);
  StoreUsage& operator-=(const StoreUsage& other);
  bool operator==(const StoreUsage& other) const = default;
};

// Not thread-safe.
class QuotaLedger {
 public:
  QuotaLedger(const StoreQuota& total, const StoreQuota& per_tenant)
      : total_limit_(total), tenant_limit_(per_tenant) {}

  // Whether `more` fits: RESOURCE_EXHAUSTED UPLOAD_LIMIT (uploads, staged
  // bytes), ADAPTER_QUOTA, STORE_QUOTA (stored and staged bytes). Limits in
  // `own` take the place of those for every tenant.
  absl::Status Check(absl::string_view tenant, const StoreUsage& more,
                     const StoreQuota& own) const;
  // Never refuses: what is there already counts whatever the limits are now.
  void Add(absl::string_view tenant, const StoreUsage& more);
  // REQUIRES: `less` was added before.
  void Subtract(absl::string_view tenant, const StoreUsage& less);

  StoreUsage UsageOf(absl::string_view tenant) const;
  const StoreUsage& total() const { return total_; }

 private:
  const StoreQuota total_limit_;
  const StoreQuota tenant_limit_;
  StoreUsage total_;
  absl::flat_hash_map<std::string, StoreUsage> tenants_;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORE_QUOTA_H_
