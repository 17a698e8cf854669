#include "adapters/store_quota.h"

#include "absl/strings/str_cat.h"
#include "adapters/error_reason.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

absl::Status Exceeded(absl::string_view reason, absl::string_view whose,
                      absl::string_view what) {
  return ReasonedError(absl::StatusCode::kResourceExhausted, reason,
                       absl::StrCat(whose, " ", what));
}

// Asked for nothing: fits, however full it is.
template <typename Number>
bool Fits(Number used, Number more, Number limit) {
  return limit == 0 || more == 0 || (used <= limit && more <= limit - used);
}

absl::Status CheckOne(const StoreUsage& used, const StoreUsage& more,
                      const StoreQuota& limit, absl::string_view whose) {
  if (!Fits(used.uploads, more.uploads, limit.max_uploads)) {
    return Exceeded(
        reason::kUploadLimit, whose,
        absl::StrCat("at most ", limit.max_uploads, " uploads at once"));
  }
  if (!Fits(used.staged_bytes, more.staged_bytes, limit.max_staged_bytes)) {
    return Exceeded(reason::kUploadLimit, whose,
                    absl::StrCat("at most ", limit.max_staged_bytes,
                                 " bytes of uploads in flight"));
  }
  if (!Fits(used.adapters, more.adapters, limit.max_adapters)) {
    return Exceeded(reason::kAdapterQuota, whose,
                    absl::StrCat("at most ", limit.max_adapters, " adapters"));
  }
  if (!Fits(used.stored_bytes + used.staged_bytes,
            more.stored_bytes + more.staged_bytes, limit.max_bytes)) {
    return Exceeded(
        reason::kStoreQuota, whose,
        absl::StrCat("at most ", limit.max_bytes, " bytes of adapters"));
  }
  return absl::OkStatus();
}

StoreQuota Override(StoreQuota limit, const StoreQuota& own) {
  if (own.max_adapters > 0) limit.max_adapters = own.max_adapters;
  if (own.max_bytes > 0) limit.max_bytes = own.max_bytes;
  if (own.max_staged_bytes > 0) limit.max_staged_bytes = own.max_staged_bytes;
  if (own.max_uploads > 0) limit.max_uploads = own.max_uploads;
  return limit;
}

}  // namespace

StoreUsage& StoreUsage::operator+=(const StoreUsage& other) {
  adapters += other.adapters;
  stored_bytes += other.stored_bytes;
  staged_bytes += other.staged_bytes;
  uploads += other.uploads;
  return *this;
}

StoreUsage& StoreUsage::operator-=(const StoreUsage& other) {
  DESCANT_CHECK(adapters >= other.adapters && uploads >= other.uploads &&
                stored_bytes >= other.stored_bytes &&
                staged_bytes >= other.staged_bytes);
  adapters -= other.adapters;
  stored_bytes -= other.stored_bytes;
  staged_bytes -= other.staged_bytes;
  uploads -= other.uploads;
  return *this;
}

absl::Status QuotaLedger::Check(absl::string_view tenant,
                                const StoreUsage& more,
                                const StoreQuota& own) const {
  DESCANT_RETURN_IF_ERROR(CheckOne(UsageOf(tenant), more,
                                   Override(tenant_limit_, own),
                                   "the tenant may have"));
  return CheckOne(total_, more, total_limit_, "the server keeps");
}

void QuotaLedger::Add(absl::string_view tenant, const StoreUsage& more) {
  if (more == StoreUsage()) return;
  tenants_[tenant] += more;
  total_ += more;
}

void QuotaLedger::Subtract(absl::string_view tenant, const StoreUsage& less) {
  if (less == StoreUsage()) return;
  const auto it = tenants_.find(tenant);
  DESCANT_CHECK(it != tenants_.end());
  it->second -= less;
  if (it->second == StoreUsage()) tenants_.erase(it);
  total_ -= less;
}

StoreUsage QuotaLedger::UsageOf(absl::string_view tenant) const {
  const auto it = tenants_.find(tenant);
  return it == tenants_.end() ? StoreUsage() : it->second;
}

}  // namespace descant
