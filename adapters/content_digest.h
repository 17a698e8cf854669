// The digest of a PEFT pair from its bytes as they come, without the base
// model it was made for: for what is in the store already.
#ifndef DESCANT_ADAPTERS_CONTENT_DIGEST_H_
#define DESCANT_ADAPTERS_CONTENT_DIGEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/formats/safetensors.h"
#include "adapters/identity.h"

namespace descant {

// Fed with the safetensors file in order. One thread. Memory is bounded by the
// header's cap. Errors are INVALID_ARGUMENT: no pair of our formats.
class ContentDigest {
 public:
  ContentDigest(std::string config_json, uint64_t safetensors_bytes,
                std::string base_fingerprint)
      : config_json_(std::move(config_json)),
        size_(safetensors_bytes),
        base_fingerprint_(std::move(base_fingerprint)) {}

  absl::Status Append(absl::Span<const char> chunk);
  // After the last byte. Call once. "sha256:<hex>", as AdapterDigest.
  absl::StatusOr<std::string> Finish();

 private:
  // Takes what is missing up to `total` header bytes off `chunk`; true when
  // they are there.
  bool Take(uint64_t total, absl::Span<const char>* chunk);
  absl::Status ConsumeHeader(absl::Span<const char>* chunk);
  void ConsumeTensor(absl::Span<const char>* chunk);

  const std::string config_json_;
  const uint64_t size_;
  const std::string base_fingerprint_;
  uint64_t received_ = 0;
  std::string header_;  // prefix and header, until they are complete
  bool header_done_ = false;
  SafetensorsIndex index_;
  std::vector<size_t> file_order_;  // indices of tensors, by offset
  std::vector<Sha256Digest> hashes_;
  size_t next_ = 0;        // into file_order_
  uint64_t position_ = 0;  // in the file
  std::optional<Sha256> hash_;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_CONTENT_DIGEST_H_
