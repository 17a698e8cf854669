// A stored version as the PEFT pair it came as, checked while it is read.
#ifndef DESCANT_ADAPTERS_STORED_FILES_H_
#define DESCANT_ADAPTERS_STORED_FILES_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "adapters/adapter.h"
#include "adapters/blob.h"
#include "adapters/content_digest.h"
#include "adapters/stored_tensors.h"
#include "runtime/base/fs.h"

namespace descant {

// Holds the file open: readable whatever happens to the name meanwhile. One
// thread. Must not outlive the store it is of.
class StoredFiles {
 public:
  // `source`, if not null, is told of damage. DATA_LOSS ADAPTER_DATA_LOSS (the
  // file is missing, or its header or size is wrong), UNAVAILABLE
  // ADAPTER_UNREADABLE.
  static absl::StatusOr<std::unique_ptr<StoredFiles>> Open(
      Fs* fs, const std::string& path, const AdapterInfo& info,
      std::shared_ptr<const StoredTensors> source);

  const std::string& config_json() const { return blob_.config_json(); }
  uint64_t safetensors_bytes() const { return blob_.safetensors_bytes(); }

  // All of [offset, offset + out.size()) of the safetensors file. DATA_LOSS,
  // UNAVAILABLE. REQUIRES: within the file.
  absl::Status Read(uint64_t offset, absl::Span<char> out);

  // Whether config and file are what the digest says: what was read in order
  // from the beginning was checked on the way, the rest is read now. DATA_LOSS
  // (then every version of this content is quarantined), UNAVAILABLE.
  absl::Status Finish();

 private:
  StoredFiles(Blob blob, const AdapterInfo& info,
              std::shared_ptr<const StoredTensors> source)
      : blob_(std::move(blob)),
        tenant_(info.tenant),
        digest_(info.digest),
        source_(std::move(source)),
        content_(blob_.config_json(), blob_.safetensors_bytes(),
                 info.base_fingerprint) {}

  // What a failed read or check means; quarantines where it is damage.
  static absl::Status Judge(const absl::Status& error,
                            const std::string& tenant,
                            const StoredTensors* source);

  const Blob blob_;
  const std::string tenant_;
  const std::string digest_;
  const std::shared_ptr<const StoredTensors> source_;
  ContentDigest content_;
  uint64_t position_ = 0;  // checked so far
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_STORED_FILES_H_
