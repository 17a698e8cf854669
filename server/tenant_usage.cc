#include "server/tenant_usage.h"

namespace descant {

TenantCounts TenantUsage::Account::counts() const {
  TenantCounts counts;
  counts.requests = requests_.load(std::memory_order_relaxed);
  counts.refused = refused_.load(std::memory_order_relaxed);
  counts.prompt_tokens = prompt_tokens_.load(std::memory_order_relaxed);
  counts.cached_tokens = cached_tokens_.load(std::memory_order_relaxed);
  counts.generated_tokens = generated_tokens_.load(std::memory_order_relaxed);
  return counts;
}

TenantUsage::Account* TenantUsage::AccountOf(absl::string_view tenant) {
  MutexLock lock(&mutex_);
  std::unique_ptr<Account>& account = accounts_[tenant];
  if (account == nullptr) account = std::make_unique<Account>();
  return account.get();
}

TenantCounts TenantUsage::CountsOf(absl::string_view tenant) const {
  MutexLock lock(&mutex_);
  const auto found = accounts_.find(tenant);
  return found == accounts_.end() ? TenantCounts() : found->second->counts();
}

}  // namespace descant
