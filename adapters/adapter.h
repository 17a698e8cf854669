// One validated version of a tenant's LoRA adapter: what it is, and its tensors
// or where they are read from.
#ifndef DESCANT_ADAPTERS_ADAPTER_H_
#define DESCANT_ADAPTERS_ADAPTER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "adapters/base_shape.h"
#include "adapters/formats/dtype.h"

namespace descant {

// A row-major matrix in the dtype of the file, aligned to 64 bytes. The bytes
// belong to the Adapter.
struct AdapterMatrix {
  Dtype dtype = Dtype::kF32;  // never kOther
  int32_t rows = 0;
  int32_t columns = 0;
  const void* data = nullptr;
};

// y += scale * (x A^T) B^T on one linear module.
struct AdapterModule {
  int32_t layer = 0;
  LinearKind kind = LinearKind::kQ;
  int32_t rank = 0;
  float scale = 0;  // alpha / r, or alpha / sqrt(r) with rsLoRA
  AdapterMatrix a;  // [rank, in]
  AdapterMatrix b;  // [out, rank]
};

struct Adapter;

// Where tensors that are not in memory are read from. Thread-safe.
class AdapterSource {
 public:
  virtual ~AdapterSource() = default;
  // `adapter`, one of this source, with its tensors: read and checked against
  // the digest. DATA_LOSS ADAPTER_DATA_LOSS: they are not what the digest says.
  // UNAVAILABLE ADAPTER_UNREADABLE: no memory or no file handle right now.
  virtual absl::StatusOr<std::shared_ptr<const Adapter>> Load(
      const Adapter& adapter) const = 0;
};

// Immutable; shared as std::shared_ptr<const Adapter>. A request keeps the
// version it started with alive, whatever happens to the name. Those of a
// registry have a source and no tensors: about a kilobyte each.
struct Adapter {
  std::string tenant;  // "" where tenants are off
  std::string name;
  std::string digest;                  // "sha256:<hex>"
  int32_t max_rank = 0;                // over modules
  uint32_t module_kinds = 0;           // bit k: it has modules of LinearKind k
  uint64_t bytes = 0;                  // of the tensors here
  std::string base_model_name;         // as the config says; only recorded
  double created_unix = 0;             // upload time, Unix seconds
  std::vector<AdapterModule> modules;  // by layer, then kind
  std::shared_ptr<const char> buffer;  // what the matrices point into
  // Null where the tensors are here.
  std::shared_ptr<const AdapterSource> source;
};

// The adapter with its tensors: itself, or as its source reads it. Errors of
// AdapterSource::Load.
inline absl::StatusOr<std::shared_ptr<const Adapter>> WithTensors(
    std::shared_ptr<const Adapter> adapter) {
  if (adapter->source == nullptr) return adapter;
  return adapter->source->Load(*adapter);
}

// Free text of the owner, part of a version. See adapters/labels.h.
using AdapterLabels = std::map<std::string, std::string>;

// One version of a name in the store and in listings: an Adapter without its
// bytes.
struct AdapterInfo {
  std::string tenant;
  std::string name;
  std::string digest;
  uint64_t version = 0;     // grows with every change of the store
  uint64_t file_bytes = 0;  // of the safetensors file
  int32_t max_rank = 0;
  int32_t num_modules = 0;
  uint32_t module_kinds = 0;  // bit k: it has modules of LinearKind k
  uint64_t parameters = 0;
  std::string base_fingerprint;
  std::string base_model_name;
  double created_unix = 0;
  AdapterLabels labels;
};

}  // namespace descant

#endif  // DESCANT_ADAPTERS_ADAPTER_H_
