#include "adapters/stored_adapter.h"

#include <algorithm>
#include <utility>

#include "adapters/blob.h"
#include "adapters/error_reason.h"
#include "adapters/journal.h"
#include "adapters/registry.h"
#include "adapters/store.h"
#include "adapters/stored_tensors.h"
#include "runtime/base/reason.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

// The newest version, or the newest one of the digest.
absl::StatusOr<AdapterInfo> FindVersion(std::vector<JournalRecord> records,
                                        const AdapterId& id) {
  for (JournaledName& name : ReplayJournal(std::move(records))) {
    const AdapterInfo& newest = name.versions.back();
    if (newest.tenant != id.owner || newest.name != id.name) continue;
    if (id.digest.empty()) return newest;
    const auto found = std::find_if(
        name.versions.rbegin(), name.versions.rend(),
        [&](const AdapterInfo& info) { return info.digest == id.digest; });
    if (found != name.versions.rend()) return *found;
  }
  return AdapterNotFound();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Adapter>> ReadStoredAdapter(
    Fs* fs, const std::string& directory, const AdapterId& id,
    const BaseShape& base, const AdapterLimits& limits) {
  const absl::StatusOr<int32_t> format = ReadStoreFormat(fs, directory);
  if (absl::IsNotFound(format.status())) {
    return absl::NotFoundError("there is no adapter store");
  }
  DESCANT_RETURN_IF_ERROR(format.status());
  DESCANT_ASSIGN_OR_RETURN(JournalFile journal, ReadJournalFile(fs, directory));
  DESCANT_ASSIGN_OR_RETURN(AdapterInfo info,
                           FindVersion(std::move(journal.content.records), id));
  if (info.base_fingerprint != base.fingerprint) {
    return ReasonedError(
        absl::StatusCode::kFailedPrecondition, reason::kAdapterIncompatible,
        "the adapter was made for another base model", "adapter_id");
  }
  if (!IsDigest(info.digest)) return AdapterDataLoss();
  const absl::StatusOr<Blob> blob =
      Blob::Open(fs, BlobPath(directory + "/blobs", info.tenant, info.digest));
  absl::Status status = blob.status();
  if (status.ok()) {
    auto adapter = blob->ReadAdapter(&base, limits, &info);
    if (adapter.ok()) return adapter;
    status = adapter.status();
  }
  return absl::IsNotFound(status) || IsPassing(status) ? AdapterUnreadable()
                                                       : AdapterDataLoss();
}

}  // namespace descant
