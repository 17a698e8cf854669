#include "adapters/stored_tensors.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "adapters/error_reason.h"
#include "adapters/identity.h"
#include "runtime/base/log.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

using absl::StatusCode;

constexpr size_t kTenantIdDigits = 32;

// Of memory, file handles or permissions: says nothing of the content.
bool IsPassing(const absl::Status& status) {
  return absl::IsResourceExhausted(status) || absl::IsUnavailable(status) ||
         absl::IsFailedPrecondition(status);
}

}  // namespace

std::string StoredTensorsContext::TenantDirectory(
    absl::string_view tenant) const {
  return absl::StrCat(blobs, "/",
                      HexOf(Sha256Of(tenant)).substr(0, kTenantIdDigits));
}

std::string StoredTensorsContext::BlobPath(absl::string_view tenant,
                                           absl::string_view digest) const {
  absl::ConsumePrefix(&digest, "sha256:");
  return absl::StrCat(TenantDirectory(tenant), "/", digest);
}

void StoredTensors::Keep(Blob blob) {
  auto kept = std::make_shared<const Blob>(std::move(blob));
  MutexLock lock(&mutex_);
  kept_ = std::move(kept);
}

absl::StatusOr<std::shared_ptr<const Adapter>> StoredTensors::Read(
    const Adapter& adapter) const {
  AdapterInfo info;
  info.tenant = adapter.tenant;
  info.name = adapter.name;
  info.digest = adapter.digest;
  info.created_unix = adapter.created_unix;
  std::shared_ptr<const Blob> blob = kept();
  if (blob == nullptr) {
    absl::StatusOr<Blob> opened = Blob::Open(
        context_->fs, context_->BlobPath(adapter.tenant, adapter.digest));
    if (opened.ok()) {
      blob = std::make_shared<const Blob>(*std::move(opened));
    } else {
      // Its name may have gone since: then it was kept before.
      blob = kept();
      if (blob == nullptr) return std::move(opened).status();
    }
  }
  return blob->ReadAdapter(context_->base.get(), context_->limits, &info);
}

absl::StatusOr<std::shared_ptr<const Adapter>> StoredTensors::Load(
    const Adapter& adapter) const {
  absl::StatusOr<std::shared_ptr<const Adapter>> loaded = Read(adapter);
  if (loaded.ok()) return loaded;
  const absl::Status& status = loaded.status();
  if (IsPassing(status)) {
    LogWarning("adapter ", LogSafe(adapter.name),
               " cannot be read: ", status.ToString());
    return ReasonedError(StatusCode::kUnavailable, reason::kAdapterUnreadable,
                         "the adapter cannot be read right now", "adapter_id");
  }
  LogWarning("adapter ", LogSafe(adapter.name),
             " is quarantined: ", std::string(status.message()));
  context_->registry->Quarantine(adapter);
  return ReasonedError(StatusCode::kDataLoss, reason::kAdapterDataLoss,
                       "the adapter's stored bytes are damaged", "adapter_id");
}

}  // namespace descant
