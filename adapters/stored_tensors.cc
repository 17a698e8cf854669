#include "adapters/stored_tensors.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/blob.h"
#include "adapters/error_reason.h"
#include "adapters/identity.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

constexpr size_t kTenantIdDigits = 32;

}  // namespace

std::string TenantBlobDirectory(absl::string_view blobs,
                                absl::string_view tenant) {
  return absl::StrCat(blobs, "/",
                      HexOf(Sha256Of(tenant)).substr(0, kTenantIdDigits));
}

std::string BlobPath(absl::string_view blobs, absl::string_view tenant,
                     absl::string_view digest) {
  absl::ConsumePrefix(&digest, "sha256:");
  return absl::StrCat(TenantBlobDirectory(blobs, tenant), "/", digest);
}

bool IsPassing(const absl::Status& read_error) {
  return absl::IsResourceExhausted(read_error) ||
         absl::IsUnavailable(read_error) ||
         absl::IsFailedPrecondition(read_error);
}

absl::Status AdapterDataLoss() {
  return ReasonedError(StatusCode::kDataLoss, reason::kAdapterDataLoss,
                       "the adapter's stored bytes are damaged", "adapter_id");
}

absl::Status AdapterUnreadable() {
  return ReasonedError(StatusCode::kUnavailable, reason::kAdapterUnreadable,
                       "the adapter cannot be read right now", "adapter_id");
}

absl::StatusOr<std::shared_ptr<const Adapter>> StoredTensors::Read(
    const Adapter& adapter) const {
  AdapterInfo info;
  info.tenant = adapter.tenant;
  info.name = adapter.name;
  info.digest = adapter.digest;
  info.created_unix = adapter.created_unix;
  DESCANT_ASSIGN_OR_RETURN(
      const Blob blob,
      Blob::Open(context_->fs,
                 BlobPath(context_->blobs, adapter.tenant, adapter.digest)));
  return blob.ReadAdapter(context_->base.get(), context_->limits, &info);
}

absl::StatusOr<std::shared_ptr<const Adapter>> StoredTensors::Load(
    const Adapter& adapter) const {
  absl::StatusOr<std::shared_ptr<const Adapter>> loaded = Read(adapter);
  if (loaded.ok()) return loaded;
  const absl::Status& status = loaded.status();
  if (IsPassing(status)) {
    LogWarning("adapter ", LogSafe(adapter.name),
               " cannot be read: ", status.ToString());
    return AdapterUnreadable();
  }
  LogWarning("adapter ", LogSafe(adapter.name),
             " is quarantined: ", std::string(status.message()));
  Quarantine(adapter.tenant);
  return AdapterDataLoss();
}

void StoredTensors::Quarantine(absl::string_view tenant) const {
  damaged_.store(true);
  context_->registry->Quarantine(tenant, this);
}

}  // namespace descant
