// The durable, content-addressed adapter store. When Commit returns OK the
// adapter survives kill -9 and power loss; before that it is wholly there or
// wholly not.
//
// Directory (0700); adapters/README.md tells more:
//   FORMAT                       the format number, "3\n"
//   LOCK                         flock: one writer
//   journal                      adapters/journal.h
//   blobs/<tenant id>/<sha256>   blob header, config JSON, safetensors bytes
//   staging/<n>                  uploads in flight; removed at start
// The tenant id is the first 32 hex digits of the SHA-256 of the tenant's
// name, the blob's name its digest: no client string becomes a path.
#ifndef DESCANT_ADAPTERS_STORE_H_
#define DESCANT_ADAPTERS_STORE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/adapter.h"
#include "adapters/base_shape.h"
#include "adapters/blob_references.h"
#include "adapters/gguf_lora.h"
#include "adapters/identity.h"
#include "adapters/journal.h"
#include "adapters/labels.h"
#include "adapters/registry.h"
#include "adapters/sharing.h"
#include "adapters/store_quota.h"
#include "adapters/stored_files.h"
#include "adapters/stored_tensors.h"
#include "adapters/validate.h"
#include "runtime/base/clock.h"
#include "runtime/base/fs.h"
#include "runtime/base/mutex.h"

namespace descant {

struct StoreOptions {
  std::string directory;
  std::string model_name;  // a reserved adapter name
  AdapterLimits limits;
  // Kept of each name, the current one included; >= 1.
  int32_t max_versions = 4;
  StoreQuota total;
  StoreQuota per_tenant;
  // How long a blob stays after the last version that refers to it is gone.
  Duration garbage_grace = std::chrono::seconds(30);
  // The journal is written anew when it is larger, and more than twice as large
  // as what it has to say.
  uint64_t rotate_bytes = 4 << 20;
};

// What recovery found, versions counted. `messages` are for the log.
struct RecoveryReport {
  int32_t ready = 0;
  int32_t incompatible = 0;
  int32_t corrupt = 0;
  int32_t removed_files = 0;  // staging leftovers, unreferenced blobs
  std::vector<std::string> messages;
};

// Container format of an upload.
enum class AdapterFormat {
  kSafetensors,  // beside config_json
  kGguf,         // adapters/gguf_lora.h; no config_json. Kept as a pair
};

struct UploadSpec {
  std::string tenant;
  std::string name;
  std::string config_json;       // "" for kGguf
  uint64_t declared_size = 0;    // of the file
  std::string sha256;            // hex of the file's bytes, or ""
  std::string base_fingerprint;  // or ""
  PublishCondition condition;
  AdapterLabels labels;
  AdapterFormat format = AdapterFormat::kSafetensors;
  // Everything is checked, nothing is kept: neither on disk nor as a version.
  bool validate_only = false;
  // What the tenant may have, where it isn't the store's quota for tenants and
  // its limit of ranks; 0: it is.
  StoreQuota quota;
  int32_t max_rank = 0;
};

struct PublishResult {
  AdapterInfo info;  // of validate_only: version 0 unless kUnchanged
  PublishOutcome outcome = PublishOutcome::kCreated;
};

struct StoreStats {
  int64_t adapters = 0;
  int64_t versions = 0;
  uint64_t stored_bytes = 0;  // of files that versions refer to
  uint64_t staged_bytes = 0;  // reserved for uploads in flight
  int32_t open_uploads = 0;
  uint64_t garbage_bytes = 0;  // of files that wait for removal
  int64_t quarantined = 0;     // versions
  uint64_t journal_bytes = 0;
  bool read_only = false;
};

// One version read whole.
struct VerifyResult {
  AdapterInfo info;
  uint64_t bytes = 0;  // that were read
  // OK; DATA_LOSS: damaged; UNAVAILABLE: cannot be read right now; NOT_FOUND:
  // no longer kept.
  absl::Status status;
};

// Of a store's directory. NOT_FOUND, DATA_LOSS STORE_CORRUPT,
// FAILED_PRECONDITION STORE_FORMAT_NEWER.
absl::StatusOr<int32_t> ReadStoreFormat(Fs* fs, const std::string& directory);

class AdapterStore;

// One upload. Destroying it before Commit leaves nothing, and so does its first
// error, at once. One thread at a time; may rest between Appends. Must not
// outlive the store.
class AdapterUpload {
 public:
  ~AdapterUpload();
  // Validates while staging to disk; after an error every call returns it.
  absl::Status Append(absl::Span<const char> chunk);
  // Bytes of the file that Appends have taken.
  uint64_t received() const { return received_; }
  // Publishes. Call once, last.
  absl::StatusOr<PublishResult> Commit();

 private:
  friend class AdapterStore;
  explicit AdapterUpload(AdapterStore* store) : store_(store) {}

  // The pair that will be kept is known: where it is validated and staged.
  absl::Status BeginPair(absl::string_view config_json,
                         uint64_t safetensors_bytes);
  absl::Status AppendPair(absl::Span<const char> chunk);
  absl::Status AppendGguf(absl::Span<const char> chunk);
  absl::StatusOr<PublishResult> Publish();
  // Gives everything back, once.
  void End();

  AdapterStore* const store_;
  UploadSpec spec_;
  StoreUsage reserved_;  // in the store's ledger
  uint64_t received_ = 0;
  uint64_t pair_bytes_ = 0;  // of the safetensors file
  // Of kGguf: what makes the pair, and the hash of the file as it came.
  std::unique_ptr<GgufLoraReader> gguf_;
  std::optional<Sha256> gguf_hash_;
  AdapterLimits limits_;
  std::unique_ptr<AdapterValidator> validator_;  // null: no pair yet
  std::string staging_path_;
  std::unique_ptr<WritableFile> file_;  // null: nothing is staged
  absl::Status status_;
};

// Thread-safe. Everything acknowledged is in the registry, in the journal's
// order. The registry's adapters have no tensors: their source reads them from
// the store, and checks them, each time they are loaded.
class AdapterStore {
 public:
  // Opens or creates the directory, recovers, and fills `registry`. UNAVAILABLE
  // STORE_LOCKED, FAILED_PRECONDITION STORE_FORMAT_NEWER, DATA_LOSS
  // STORE_CORRUPT (the format file, the journal's head). A version whose file
  // is missing or has another size or header than it was stored with becomes
  // an entry of state kCorrupt; damage within the tensors does when they are
  // loaded or verified. A directory that cannot be written (a read-only file
  // system, no permission, a full disk) is opened to be served only, if it is
  // a store; else FAILED_PRECONDITION STORE_READ_ONLY. The pointers must
  // outlive the store, and the store whatever loads its adapters.
  static absl::StatusOr<std::unique_ptr<AdapterStore>> Open(
      Fs* fs, const Clock* clock, const StoreOptions& options,
      std::shared_ptr<const BaseShape> base, AdapterRegistry* registry);
  // REQUIRES: no uploads.
  ~AdapterStore();

  const RecoveryReport& recovery() const { return recovery_; }

  // Checks name, labels, config, sizes and conflicts that are known already,
  // and reserves what the upload will take. RESOURCE_EXHAUSTED UPLOAD_LIMIT,
  // ADAPTER_QUOTA, STORE_QUOTA.
  absl::StatusOr<std::unique_ptr<AdapterUpload>> BeginUpload(UploadSpec spec);

  // A new version with the content and labels of the kept one that `id` names,
  // or without a digest of the one before the current. NOT_FOUND, ABORTED
  // (expected_version), DATA_LOSS or FAILED_PRECONDITION where that version
  // cannot be served. Naming the current one is kUnchanged.
  absl::StatusOr<PublishResult> Rollback(
      absl::string_view tenant, const AdapterId& id,
      std::optional<uint64_t> expected_version = std::nullopt);

  // The name with its versions: gone from the registry and the journal on
  // return; requests in flight keep their adapter. NOT_FOUND, ABORTED.
  absl::Status Delete(absl::string_view tenant, absl::string_view name,
                      std::optional<uint64_t> expected_version = std::nullopt);

  // Who but its owner may use the name from now on; durable on return. The
  // name's current version. NOT_FOUND.
  absl::StatusOr<RegistryEntry> Share(absl::string_view tenant,
                                      absl::string_view name,
                                      AdapterSharing sharing);

  // A kept version as the pair it came as. NOT_FOUND, DATA_LOSS, UNAVAILABLE.
  absl::StatusOr<std::unique_ptr<StoredFiles>> OpenFiles(
      const RegistryEntry& entry);

  // Removes the blobs to which no version, load or request has referred for
  // garbage_grace. To be called about once a second.
  void CollectGarbage();

  // Every kept version, by tenant, name, newest first.
  std::vector<AdapterInfo> AllVersions() const {
    return registry_->AllVersions();
  }
  // Whether a kept version refers to the tenant's digest.
  bool Keeps(absl::string_view tenant, absl::string_view digest) const;
  // Reads a version whole and compares it with its digest, whichever base
  // model it was made for. What is damaged is quarantined; what was and is
  // sound again is not any more.
  VerifyResult Verify(const AdapterInfo& info);

  StoreStats Stats() const;

  // After a failed write or sync, or on a directory that cannot be written, the
  // store serves and refuses to change: FAILED_PRECONDITION STORE_READ_ONLY.
  bool read_only() const;

  const AdapterRegistry& registry() const { return *registry_; }

 private:
  friend class AdapterUpload;

  AdapterStore(Fs* fs, const Clock* clock, const StoreOptions& options,
               std::shared_ptr<const BaseShape> base,
               AdapterRegistry* registry);

  // store_recovery.cc
  absl::Status Prepare();
  absl::Status PrepareWritable();
  absl::Status PrepareReadOnly(const absl::Status& why);
  absl::Status TakeLock();
  absl::Status CheckFormat(bool writable);
  absl::Status WriteFormat();
  absl::Status ProbeWriting();
  absl::Status Recover();
  void RecoverOne(AdapterInfo info, size_t keep)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckStored(AdapterInfo* info);
  void CleanUp();
  void RemoveUnwanted(const std::string& directory,
                      const absl::flat_hash_set<std::string>& wanted);

  // store_publish.cc
  absl::StatusOr<PublishResult> Publish(AdapterUpload* upload,
                                        const ValidatedAdapter& validated);
  absl::Status SyncStaging(AdapterUpload* upload);
  // Reserves the new name, if there will be one, where the upload hasn't.
  absl::Status ReserveNameLocked(AdapterUpload* upload, PublishOutcome outcome)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status InstallBlobLocked(AdapterUpload* upload, AdapterInfo* info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status MoveIntoPlaceLocked(AdapterUpload* upload,
                                   const std::string& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Records `info` as the name's next version and puts it into the registry;
  // its blob is there.
  absl::Status RecordLocked(AdapterInfo* info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // store_garbage.cc
  // One more version refers to the blob; the handle to give to its entry.
  std::shared_ptr<const Adapter> AddReferenceLocked(const AdapterInfo& info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropLocked(const std::vector<RegistryEntry>& versions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Bytes of the record; none where it is nobody's.
  static uint64_t SharingBytes(absl::string_view tenant, absl::string_view name,
                               const AdapterSharing& sharing);
  void RotateJournalLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Where the pair of a GGUF file is larger than the file was declared.
  absl::Status ReservePair(AdapterUpload* upload, uint64_t pair_bytes);
  void Release(const std::string& tenant, const StoreUsage& reserved);
  std::shared_ptr<StoredTensors> SourceOf(const AdapterInfo& info) const;
  std::string PathOf(const AdapterInfo& info) const {
    return BlobPath(context_->blobs, info.tenant, info.digest);
  }

  Fs* const fs_;
  const Clock* const clock_;
  const StoreOptions options_;
  const std::shared_ptr<const BaseShape> base_;
  AdapterRegistry* const registry_;
  const std::shared_ptr<const StoredTensorsContext> context_;
  RecoveryReport recovery_;
  std::unique_ptr<FileLock> lock_;
  bool opened_read_only_ = false;

  // Held over a publication: the journal's order is the registry's order.
  mutable Mutex mutex_;
  std::unique_ptr<Journal> journal_ ABSL_GUARDED_BY(mutex_);
  // Bytes of the records that the journal needs, and the size below which it
  // isn't rotated.
  uint64_t live_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t rotate_at_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_version_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_staging_ ABSL_GUARDED_BY(mutex_) = 0;
  BlobReferences blobs_ ABSL_GUARDED_BY(mutex_);
  QuotaLedger ledger_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORE_H_
