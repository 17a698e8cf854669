// A stored adapter version: a fixed header, the config, the safetensors bytes.
//
// Header, 32 bytes, little-endian: "DSCBLOB1", u64 config bytes, u64
// safetensors bytes, u32 CRC32C of the 24 bytes before, u32 zero. What the
// bytes mean is checked by the validator; the file's name is the digest.
#ifndef DESCANT_ADAPTERS_BLOB_H_
#define DESCANT_ADAPTERS_BLOB_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/adapter.h"
#include "adapters/validate.h"
#include "runtime/base/fs.h"

namespace descant {

inline constexpr uint64_t kBlobHeaderBytes = 32;

// Header and config, before the safetensors bytes.
std::string EncodeBlobPrefix(absl::string_view config_json,
                             uint64_t safetensors_bytes);

// An open blob. Every read is a pread: never mapped.
class Blob {
 public:
  // DATA_LOSS where the header or the sizes are wrong; the file's errors.
  static absl::StatusOr<Blob> Open(Fs* fs, const std::string& path);

  const std::string& config_json() const { return config_json_; }
  uint64_t safetensors_bytes() const { return safetensors_bytes_; }

  // [offset, offset + out.size()) of the safetensors bytes; DATA_LOSS when the
  // file is shorter.
  absl::Status Read(uint64_t offset, absl::Span<char> out) const;

  // The adapter `info` speaks of, with its tensors: read once, into the memory
  // they stay in, and validated there. Its digest is the proof of the content:
  // DATA_LOSS where it isn't info->digest. Other errors: no memory, or what the
  // validator says. Where info->module_kinds is 0 (a record of an older
  // server), DescribeModules fills it.
  absl::StatusOr<std::shared_ptr<const Adapter>> ReadAdapter(
      const BaseShape* base, const AdapterLimits& limits,
      AdapterInfo* info) const;

 private:
  Blob() = default;
  absl::Status FeedHeader(AdapterValidator* validator) const;

  std::unique_ptr<ReadableFile> file_;
  std::string config_json_;
  uint64_t safetensors_bytes_ = 0;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_BLOB_H_
