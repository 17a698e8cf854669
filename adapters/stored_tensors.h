// The stored bytes of one (tenant, digest), as the source of its adapters.
#ifndef DESCANT_ADAPTERS_STORED_TENSORS_H_
#define DESCANT_ADAPTERS_STORED_TENSORS_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter.h"
#include "adapters/base_shape.h"
#include "adapters/registry.h"
#include "adapters/validate.h"
#include "runtime/base/fs.h"

namespace descant {

// Of the SHA-256s of tenant and content: no client string becomes a path.
// `blobs` is the directory.
std::string TenantBlobDirectory(absl::string_view blobs,
                                absl::string_view tenant);
std::string BlobPath(absl::string_view blobs, absl::string_view tenant,
                     absl::string_view digest);

// What the sources of a store share. Thread-safe where its parts are.
struct StoredTensorsContext {
  Fs* fs = nullptr;
  std::shared_ptr<const BaseShape> base;
  AdapterLimits limits;
  AdapterRegistry* registry = nullptr;  // told of damage
  std::string blobs;                    // the directory
};

// Whether a failed read was for want of memory, file handles or permissions,
// and so says nothing of the content.
bool IsPassing(const absl::Status& read_error);
// What a client is told of the two kinds of failure: DATA_LOSS
// ADAPTER_DATA_LOSS, UNAVAILABLE ADAPTER_UNREADABLE.
absl::Status AdapterDataLoss();
absl::Status AdapterUnreadable();

// Thread-safe. Load opens the blob each time, so that registered adapters cost
// no file handle. While somebody holds it the store keeps the blob. Must not be
// used after the store is gone.
class StoredTensors final : public AdapterSource {
 public:
  explicit StoredTensors(std::shared_ptr<const StoredTensorsContext> context)
      : context_(std::move(context)) {}

  // Damage also quarantines the versions that are read from here.
  absl::StatusOr<std::shared_ptr<const Adapter>> Load(
      const Adapter& adapter) const override;

  // The bytes are not what the digest says: so for every version of them.
  void Quarantine(absl::string_view tenant) const;
  bool damaged() const { return damaged_.load(); }
  void set_damaged(bool damaged) const { damaged_.store(damaged); }

 private:
  absl::StatusOr<std::shared_ptr<const Adapter>> Read(
      const Adapter& adapter) const;

  const std::shared_ptr<const StoredTensorsContext> context_;
  mutable std::atomic<bool> damaged_{false};
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORED_TENSORS_H_
