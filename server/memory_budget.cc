#include "server/memory_budget.h"

#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"
#include "server/errors.h"

namespace descant {

absl::Status MemoryBudget::Add(const std::string& tenant, uint64_t own,
                               uint64_t bytes) {
  const uint64_t request_limit = capacity_ / 2;
  const uint64_t tenant_limit = capacity_ - capacity_ / 4;
  if (bytes > request_limit || own > request_limit - bytes) {
    return ReasonedError(absl::StatusCode::kInvalidArgument,
                         reason::kRequestTooLarge,
                         "the request and its answers, at the most they can "
                         "grow to, are larger than the server allows: ask for "
                         "fewer tokens, answers or log-probabilities");
  }
  MutexLock lock(&mutex_);
  if (held_ > capacity_ - bytes) {
    return ReasonedError(absl::StatusCode::kUnavailable, reason::kMemoryFull,
                         "the requests under way take all the memory there is "
                         "for them");
  }
  // Where tenants are off all are one.
  if (!tenant.empty()) {
    uint64_t& mine = by_tenant_[tenant];
    if (mine > tenant_limit - bytes) {
      return ReasonedError(absl::StatusCode::kResourceExhausted,
                           reason::kTenantMemoryLimit,
                           "the tenant's requests under way take all the "
                           "memory that one tenant may have");
    }
    mine += bytes;
  }
  held_ += bytes;
  return absl::OkStatus();
}

absl::StatusOr<MemoryBudget::Hold> MemoryBudget::Take(const std::string& tenant,
                                                      uint64_t bytes) {
  DESCANT_RETURN_IF_ERROR(Add(tenant, 0, bytes));
  Hold hold;
  hold.budget_ = this;
  hold.tenant_ = tenant;
  hold.bytes_ = bytes;
  return hold;
}

MemoryBudget::Hold& MemoryBudget::Hold::operator=(Hold&& other) noexcept {
  Release();
  budget_ = std::exchange(other.budget_, nullptr);
  tenant_ = std::move(other.tenant_);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

absl::Status MemoryBudget::Hold::Grow(uint64_t bytes) {
  DESCANT_CHECK(budget_ != nullptr);
  DESCANT_RETURN_IF_ERROR(budget_->Add(tenant_, bytes_, bytes));
  bytes_ += bytes;
  return absl::OkStatus();
}

void MemoryBudget::Hold::Release() {
  if (budget_ == nullptr) return;
  MemoryBudget* const budget = std::exchange(budget_, nullptr);
  const uint64_t bytes = std::exchange(bytes_, 0);
  MutexLock lock(&budget->mutex_);
  DESCANT_CHECK(budget->held_ >= bytes);
  budget->held_ -= bytes;
  if (tenant_.empty()) return;
  const auto mine = budget->by_tenant_.find(tenant_);
  DESCANT_CHECK(mine != budget->by_tenant_.end() && mine->second >= bytes);
  mine->second -= bytes;
  if (mine->second == 0) budget->by_tenant_.erase(mine);
}

}  // namespace descant
