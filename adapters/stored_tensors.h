// The stored bytes of one (tenant, digest), as the source of its adapters.
#ifndef DESCANT_ADAPTERS_STORED_TENSORS_H_
#define DESCANT_ADAPTERS_STORED_TENSORS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "adapters/adapter.h"
#include "adapters/base_shape.h"
#include "adapters/blob.h"
#include "adapters/registry.h"
#include "adapters/validate.h"
#include "runtime/base/fs.h"
#include "runtime/base/mutex.h"

namespace descant {

// What the sources of a store share. Thread-safe where its parts are.
struct StoredTensorsContext {
  Fs* fs = nullptr;
  std::shared_ptr<const BaseShape> base;
  AdapterLimits limits;
  AdapterRegistry* registry = nullptr;  // told of damage
  std::string blobs;                    // the directory

  // Of the SHA-256s of tenant and content: no client string becomes a path.
  std::string TenantDirectory(absl::string_view tenant) const;
  std::string BlobPath(absl::string_view tenant,
                       absl::string_view digest) const;
};

// Thread-safe. Load opens the blob each time, so that registered adapters cost
// no file handle. Must not be used after the store is gone.
class StoredTensors final : public AdapterSource {
 public:
  explicit StoredTensors(std::shared_ptr<const StoredTensorsContext> context)
      : context_(std::move(context)) {}

  // Damage also quarantines the adapter's entry in the registry.
  absl::StatusOr<std::shared_ptr<const Adapter>> Load(
      const Adapter& adapter) const override;

  // Before the blob's name is removed: requests in flight may still load it,
  // from the open file.
  void Keep(Blob blob);

 private:
  absl::StatusOr<std::shared_ptr<const Adapter>> Read(
      const Adapter& adapter) const;
  std::shared_ptr<const Blob> kept() const {
    MutexLock lock(&mutex_);
    return kept_;
  }

  const std::shared_ptr<const StoredTensorsContext> context_;
  mutable Mutex mutex_;
  std::shared_ptr<const Blob> kept_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORED_TENSORS_H_
