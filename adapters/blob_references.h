// Which blobs of a store the kept versions refer to, and which wait to be
// removed.
#ifndef DESCANT_ADAPTERS_BLOB_REFERENCES_H_
#define DESCANT_ADAPTERS_BLOB_REFERENCES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "adapters/identity.h"
#include "adapters/stored_tensors.h"
#include "runtime/base/clock.h"

namespace descant {

// Not thread-safe. A blob is known by (tenant, digest).
class BlobReferences {
 public:
  explicit BlobReferences(std::shared_ptr<const StoredTensorsContext> context)
      : context_(std::move(context)) {}

  struct Reference {
    int32_t versions = 0;  // 0: garbage
    uint64_t bytes = 0;    // of the safetensors file
    std::shared_ptr<StoredTensors> tensors;
  };
  // Null where no version refers to it and it doesn't wait for removal.
  const Reference* Find(absl::string_view tenant,
                        absl::string_view digest) const;

  // One more version refers to the blob; `bytes` counts where it is new.
  // `first`: whether none did before.
  std::shared_ptr<StoredTensors> Add(absl::string_view tenant,
                                     absl::string_view digest, uint64_t bytes,
                                     bool* first);
  // The blob's file was replaced by a sound one: its source from now on.
  std::shared_ptr<StoredTensors> Renew(absl::string_view tenant,
                                       absl::string_view digest,
                                       uint64_t bytes);
  // One version less. After the last the blob is garbage, from `now` on; then
  // the result is its bytes, else 0.
  uint64_t Remove(absl::string_view tenant, absl::string_view digest,
                  MonotonicTime now);

  // Calls `remove` with the path of each blob that was garbage before `since`
  // and whose source nobody holds; forgets those for which it is true.
  void Collect(MonotonicTime since,
               const std::function<bool(const std::string&)>& remove);
  uint64_t garbage_bytes() const { return garbage_bytes_; }

 private:
  struct Garbage {
    std::string path;
    MonotonicTime since;
  };
  static Sha256Digest KeyOf(absl::string_view tenant, absl::string_view digest);

  const std::shared_ptr<const StoredTensorsContext> context_;
  // By a hash: 32 bytes, whatever the names.
  absl::flat_hash_map<Sha256Digest, Reference> references_;
  absl::flat_hash_map<Sha256Digest, Garbage> garbage_;
  uint64_t garbage_bytes_ = 0;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_BLOB_REFERENCES_H_
