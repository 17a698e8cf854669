// The durable, content-addressed adapter store. When Commit returns OK the
// adapter survives kill -9 and power loss; before that it is wholly there or
// wholly not.
//
// Directory (0700):
//   FORMAT                       the format number, "1\n"
//   LOCK                         flock: one writer
//   journal                      adapters/journal.h
//   blobs/<tenant id>/<sha256>   blob header, config JSON, safetensors bytes
//   staging/<n>                  uploads in flight; removed at start
// The tenant id is the first 32 hex digits of the SHA-256 of the tenant's
// name, the blob's name its digest: no client string becomes a path.
#ifndef DESCANT_ADAPTERS_STORE_H_
#define DESCANT_ADAPTERS_STORE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/adapter.h"
#include "adapters/base_shape.h"
#include "adapters/journal.h"
#include "adapters/registry.h"
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
};

// What recovery found. `messages` are for the log.
struct RecoveryReport {
  int32_t ready = 0;
  int32_t incompatible = 0;
  int32_t corrupt = 0;
  int32_t removed_files = 0;  // staging leftovers, unreferenced blobs
  std::vector<std::string> messages;
};

struct UploadSpec {
  std::string tenant;
  std::string name;
  std::string config_json;
  uint64_t declared_size = 0;    // of the safetensors file
  std::string sha256;            // hex of the safetensors bytes, or ""
  std::string base_fingerprint;  // or ""
  PublishCondition condition;
};

struct PublishResult {
  AdapterInfo info;
  PublishOutcome outcome = PublishOutcome::kCreated;
};

class AdapterStore;

// One upload. Destroying it before Commit leaves nothing. One thread at a
// time. Must not outlive the store.
class AdapterUpload {
 public:
  ~AdapterUpload();
  // Validates while staging to disk; after an error every call returns it.
  absl::Status Append(absl::Span<const char> chunk);
  // Publishes. Call once, last.
  absl::StatusOr<PublishResult> Commit();

 private:
  friend class AdapterStore;
  AdapterUpload() = default;

  AdapterStore* store_ = nullptr;
  UploadSpec spec_;
  std::string staging_path_;
  std::unique_ptr<AdapterValidator> validator_;
  std::unique_ptr<WritableFile> file_;
  absl::Status status_;
};

// Thread-safe. Everything acknowledged is in the registry, in the journal's
// order. The registry's adapters have no tensors: their source reads them from
// the store, and checks them, each time they are loaded.
class AdapterStore {
 public:
  // Opens or creates the directory, recovers, and fills `registry`. UNAVAILABLE
  // STORE_LOCKED, FAILED_PRECONDITION STORE_FORMAT_NEWER, DATA_LOSS
  // STORE_CORRUPT (the format file). An adapter whose file is missing or has
  // another size or header than it was stored with becomes an entry of state
  // kCorrupt; damage within the tensors does when they are loaded. The pointers
  // must outlive the store, and the store whatever loads its adapters.
  static absl::StatusOr<std::unique_ptr<AdapterStore>> Open(
      Fs* fs, const Clock* clock, const StoreOptions& options,
      std::shared_ptr<const BaseShape> base, AdapterRegistry* registry);
  // REQUIRES: no uploads.
  ~AdapterStore();

  const RecoveryReport& recovery() const { return recovery_; }

  // Checks name, config, sizes and conflicts that are known already.
  absl::StatusOr<std::unique_ptr<AdapterUpload>> BeginUpload(UploadSpec spec);

  // Gone from the registry and the journal on return; requests in flight keep
  // their adapter. NOT_FOUND.
  absl::Status Delete(absl::string_view tenant, absl::string_view name);

  // After a failed write or sync the store serves and refuses to change.
  bool read_only() const;

 private:
  friend class AdapterUpload;

  AdapterStore(Fs* fs, const Clock* clock, const StoreOptions& options,
               std::shared_ptr<const BaseShape> base,
               AdapterRegistry* registry);

  absl::Status Prepare();
  absl::Status CheckFormat();
  absl::Status Recover();
  void RecoverOne(const AdapterInfo& info);
  void CleanUp();
  void RemoveUnwanted(const std::string& directory,
                      const absl::flat_hash_set<std::string>& wanted);
  absl::Status CheckStored(AdapterInfo* info);
  absl::StatusOr<PublishResult> Publish(AdapterUpload* upload,
                                        const ValidatedAdapter& validated);
  absl::Status SyncStaging(AdapterUpload* upload);
  absl::Status InstallBlob(AdapterUpload* upload, const std::string& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One more name stands for the blob; the handle to give to its entry.
  std::shared_ptr<const Adapter> AddReference(const AdapterInfo& info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveReference(const AdapterInfo& info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::string BlobPath(const AdapterInfo& info) const {
    return context_->BlobPath(info.tenant, info.digest);
  }

  Fs* const fs_;
  const Clock* const clock_;
  const StoreOptions options_;
  const std::shared_ptr<const BaseShape> base_;
  AdapterRegistry* const registry_;
  const std::shared_ptr<const StoredTensorsContext> context_;
  RecoveryReport recovery_;
  std::unique_ptr<FileLock> lock_;

  // Held over a publication: the journal's order is the registry's order.
  mutable Mutex mutex_;
  std::unique_ptr<Journal> journal_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_version_ ABSL_GUARDED_BY(mutex_) = 1;
  uint64_t next_staging_ ABSL_GUARDED_BY(mutex_) = 0;
  // A blob that names refer to, by (tenant, digest).
  struct Reference {
    int32_t names = 0;
    std::shared_ptr<StoredTensors> tensors;
  };
  absl::flat_hash_map<std::pair<std::string, std::string>, Reference>
      references_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORE_H_
