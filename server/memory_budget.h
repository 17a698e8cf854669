// Memory that requests may take together, asked for before it is taken.
#ifndef DESCANT_SERVER_MEMORY_BUDGET_H_
#define DESCANT_SERVER_MEMORY_BUDGET_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/base/mutex.h"

namespace descant {

// Counts bytes; holds none. One request gets half of the budget at most, one
// tenant three quarters, so that neither shuts the others out. Thread-safe.
// Outlives its holds.
class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t capacity) : capacity_(capacity) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // A part of the budget until it is destroyed. Not thread-safe.
  class Hold {
   public:
    Hold() = default;  // of nothing
    Hold(Hold&& other) noexcept { *this = std::move(other); }
    Hold& operator=(Hold&& other) noexcept;
    ~Hold() { Release(); }

    // Takes `bytes` more. Errors as Take's; what was held stays held.
    // REQUIRES: not of nothing.
    absl::Status Grow(uint64_t bytes);
    void Release();
    uint64_t bytes() const { return bytes_; }

   private:
    friend class MemoryBudget;
    MemoryBudget* budget_ = nullptr;  // null: of nothing
    std::string tenant_;
    uint64_t bytes_ = 0;
  };

  // `tenant` is "" where tenants are off. INVALID_ARGUMENT REQUEST_TOO_LARGE:
  // more than one request ever gets. RESOURCE_EXHAUSTED TENANT_MEMORY_LIMIT, or
  // UNAVAILABLE MEMORY_FULL: not beside what the tenant, or all, hold now.
  absl::StatusOr<Hold> Take(const std::string& tenant, uint64_t bytes);

  uint64_t capacity() const { return capacity_; }
  uint64_t held() const {
    MutexLock lock(&mutex_);
    return held_;
  }

 private:
  // `own`: what the asker holds already.
  absl::Status Add(const std::string& tenant, uint64_t own, uint64_t bytes);

  const uint64_t capacity_;
  mutable Mutex mutex_;
  uint64_t held_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of tenants that hold something.
  absl::flat_hash_map<std::string, uint64_t> by_tenant_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_SERVER_MEMORY_BUDGET_H_
