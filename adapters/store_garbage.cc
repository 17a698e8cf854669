// What refers to a blob, when its file goes, and the journal's rotation.
#include <algorithm>
#include <utility>

#include "adapters/store.h"
#include "runtime/base/failpoint.h"
#include "runtime/base/log.h"

namespace descant {
namespace {

JournalRecord SharingRecord(SharedName name, uint64_t last_version) {
  JournalRecord record;
  record.op = JournalRecord::Op::kShare;
  record.info.tenant = std::move(name.owner);
  record.info.name = std::move(name.name);
  record.info.version = last_version;
  record.sharing = std::move(name.sharing);
  return record;
}

// As they must be replayed: a name's versions oldest first, each with those
// that were there then; then who shares them. `versions`: by name, newest
// first.
std::vector<JournalRecord> RecordsOf(std::vector<AdapterInfo> versions,
                                     std::vector<SharedName> shared,
                                     uint64_t last_version) {
  std::vector<JournalRecord> records(1);
  records[0].op = JournalRecord::Op::kMark;
  records[0].info.version = last_version;
  uint64_t keep = 0;
  for (size_t i = versions.size(); i-- > 0;) {
    const bool same_name = keep > 0 &&
                           records.back().info.tenant == versions[i].tenant &&
                           records.back().info.name == versions[i].name;
    keep = same_name ? keep + 1 : 1;
    records.push_back({JournalRecord::Op::kPut, std::move(versions[i]), keep});
  }
  for (SharedName& name : shared) {
    records.push_back(SharingRecord(std::move(name), last_version));
  }
  return records;
}

}  // namespace

std::shared_ptr<const Adapter> AdapterStore::AddReferenceLocked(
    const AdapterInfo& info) {
  bool first = false;
  auto adapter = std::make_shared<Adapter>();
  adapter->source =
      blobs_.Add(info.tenant, info.digest, info.file_bytes, &first);
  if (first) ledger_.Add(info.tenant, {.stored_bytes = info.file_bytes});
  adapter->tenant = info.tenant;
  adapter->name = info.name;
  adapter->digest = info.digest;
  adapter->max_rank = info.max_rank;
  adapter->module_kinds = info.module_kinds;
  adapter->created_unix = info.created_unix;
  return adapter;
}

void AdapterStore::DropLocked(const std::vector<RegistryEntry>& versions) {
  const MonotonicTime now = clock_->Now();
  for (const RegistryEntry& entry : versions) {
    const AdapterInfo& info = entry.info;
    const uint64_t freed = blobs_.Remove(info.tenant, info.digest, now);
    ledger_.Subtract(info.tenant, {.stored_bytes = freed});
    const uint64_t record =
        EncodeRecord({JournalRecord::Op::kPut, info}).size();
    live_bytes_ -= std::min(live_bytes_, record);
  }
}

uint64_t AdapterStore::SharingBytes(absl::string_view tenant,
                                    absl::string_view name,
                                    const AdapterSharing& sharing) {
  if (sharing.nobody()) return 0;
  return EncodeRecord(SharingRecord(
                          {std::string(tenant), std::string(name), sharing}, 0))
      .size();
}

bool AdapterStore::Keeps(absl::string_view tenant,
                         absl::string_view digest) const {
  MutexLock lock(&mutex_);
  const BlobReferences::Reference* reference = blobs_.Find(tenant, digest);
  return reference != nullptr && reference->versions > 0;
}

void AdapterStore::CollectGarbage() {
  MutexLock lock(&mutex_);
  if (journal_->failed()) return;
  blobs_.Collect(clock_->Now() - options_.garbage_grace,
                 [this](const std::string& path) {
                   if (!Failpoint("store.before_blob_remove").ok()) {
                     return false;
                   }
                   const absl::Status removed = fs_->Remove(path);
                   return removed.ok() || absl::IsNotFound(removed);
                 });
}

void AdapterStore::RotateJournalLocked() {
  const uint64_t before = journal_->bytes();
  if (journal_->failed() || before <= rotate_at_ || before <= 2 * live_bytes_) {
    return;
  }
  const absl::Status rotated = journal_->Rotate(RecordsOf(
      registry_->AllVersions(), registry_->AllShared(), next_version_ - 1));
  if (rotated.ok()) {
    live_bytes_ = journal_->bytes();
    rotate_at_ = options_.rotate_bytes;
    return;
  }
  // The change itself is durable: it stays acknowledged.
  LogWarning("the store's journal is not rotated: ",
             std::string(rotated.message()));
  rotate_at_ = before + before / 4;
}

}  // namespace descant
