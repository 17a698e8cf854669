// Validation of an adapter while its bytes arrive: every rule, one message and
// one reason per violation, before anything is published. Memory is bounded by
// the header's cap, whatever the stream says.
#ifndef DESCANT_ADAPTERS_VALIDATE_H_
#define DESCANT_ADAPTERS_VALIDATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/adapter.h"
#include "adapters/base_shape.h"
#include "adapters/formats/safetensors.h"
#include "adapters/identity.h"
#include "adapters/peft_config.h"
#include "adapters/tensor_modules.h"

namespace descant {

struct AdapterLimits {
  int32_t max_rank = kMaxRank;
  uint64_t max_file_bytes = uint64_t{2} << 30;
  uint64_t max_header_bytes = 1 << 20;
  float max_abs_value = 1e4f;
};

// Of an adapter's file: 0 is INVALID_ARGUMENT UPLOAD_SIZE_MISSING, over the
// limit RESOURCE_EXHAUSTED UPLOAD_TOO_LARGE.
absl::Status CheckDeclaredSize(uint64_t size, const AdapterLimits& limits);

struct ValidatedAdapter {
  PeftConfig config;
  SafetensorsIndex index;
  std::vector<ValidatedModule> modules;  // by layer, then kind
  int32_t max_rank = 0;
  std::string digest;       // "sha256:<hex>", identity
  std::string file_sha256;  // hex, of the safetensors bytes as they came
};

// Fed with the safetensors file in order. One thread. After an error every
// call returns that error.
class AdapterValidator {
 public:
  // Checks config and sizes. `base` must outlive this. `declared_size`: of the
  // safetensors file; 0 is UPLOAD_SIZE_MISSING, over the limit
  // RESOURCE_EXHAUSTED. Else INVALID_ARGUMENT. Without `hash_file` there will
  // be no file_sha256: the tensors' own hashes, and so the digest, remain.
  static absl::StatusOr<std::unique_ptr<AdapterValidator>> Create(
      absl::string_view config_json, uint64_t declared_size,
      const BaseShape* base, const AdapterLimits& limits,
      bool hash_file = true);
  ~AdapterValidator();

  // The next bytes; refuses the first byte over the declared size, and a bad
  // header or value as soon as it is complete.
  absl::Status Append(absl::Span<const char> chunk);

  // Once the file's header is complete: everything but the digests. Else null.
  const ValidatedAdapter* header() const;

  // After the last byte. Call once.
  absl::StatusOr<ValidatedAdapter> Finish();

 private:
  class State;
  explicit AdapterValidator(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Compares a client's "base_fingerprint" (may be empty) with ours:
// FAILED_PRECONDITION, BASE_MISMATCH.
absl::Status CheckBaseFingerprint(absl::string_view declared,
                                  const BaseShape& base);

// Reads [offset, offset + out.size()) of the safetensors file, or fails.
using TensorReader =
    std::function<absl::Status(uint64_t offset, absl::Span<char> out)>;

// Reads a file's tensors into an Adapter; its digest is info.digest.
// RESOURCE_EXHAUSTED when there is no memory, else the reader's error.
absl::StatusOr<std::shared_ptr<const Adapter>> BuildAdapter(
    const AdapterInfo& info, const ValidatedAdapter& validated,
    const TensorReader& read);

// What listings say of the modules: num_modules, max_rank, module_kinds,
// parameters.
void DescribeModules(const ValidatedAdapter& validated, AdapterInfo* info);

// An adapter from a PEFT pair in memory: validated, not stored.
absl::StatusOr<std::shared_ptr<const Adapter>> MakeAdapter(
    absl::string_view tenant, absl::string_view name,
    absl::string_view config_json, absl::Span<const char> safetensors,
    const BaseShape& base, const AdapterLimits& limits);

}  // namespace descant

#endif  // DESCANT_ADAPTERS_VALIDATE_H_
