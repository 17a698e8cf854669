// The base model's tensors, dequantised one at a time, so that a load never
// holds more than the packed weights and one layer.
#ifndef DESCANT_RUNTIME_MODEL_WEIGHT_SOURCE_H_
#define DESCANT_RUNTIME_MODEL_WEIGHT_SOURCE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/base/float16.h"
#include "runtime/model/dequantize.h"
#include "runtime/model/model_config.h"

namespace descant {

// Every architecture's weights split as Llama's are: fused ones apart, linear
// ones [out, in], norms as they multiply (Gemma's 1 + w).
enum class WeightKind : uint8_t {
  // Per layer.
  kAttentionNorm,      // [hidden]
  kAttentionNormBias,  // [hidden]
  kQuery,              // [heads * head_dim, hidden]
  kQueryBias,          // [heads * head_dim]
  kKey,                // [kv_heads * head_dim, hidden]
  kKeyBias,            // [kv_heads * head_dim]
  kValue,              // [kv_heads * head_dim, hidden]
  kValueBias,          // [kv_heads * head_dim]
  kQueryNorm,          // [head_dim]
  kKeyNorm,            // [head_dim]
  kAttentionOut,       // [hidden, heads * head_dim]
  kAttentionOutBias,   // [hidden]
  kAttentionPostNorm,  // [hidden]
  kMlpNorm,            // [hidden]
  kMlpNormBias,        // [hidden]
  kGate,               // [intermediate, hidden]
  kGateBias,           // [intermediate]
  kUp,                 // [intermediate, hidden]
  kUpBias,             // [intermediate]
  kDown,               // [hidden, intermediate]
  kDownBias,           // [hidden]
  kMlpPostNorm,        // [hidden]
  // Of the model: layer is ignored.
  kEmbedding,          // [vocab, hidden]
  kPositionEmbedding,  // [max_position, hidden]
  kFinalNorm,          // [hidden]
  kFinalNormBias,      // [hidden]
  kHead,               // [vocab, hidden]; the embedding when tied
};
inline constexpr int32_t kLayerWeightKinds =
    static_cast<int32_t>(WeightKind::kMlpPostNorm) + 1;
inline constexpr int32_t kWeightKinds =
    static_cast<int32_t>(WeightKind::kHead) + 1;

// Whether a model of this configuration has it.
bool HasWeight(const ModelConfig& config, WeightKind kind);

struct WeightShape {
  int64_t rows = 0;  // 1 for vectors
  int64_t columns = 0;
};
// REQUIRES: HasWeight.
WeightShape ShapeOf(const ModelConfig& config, WeightKind kind);

// Row-major [rows, columns]: y = x W^T, rows of q and k in Hugging Face's
// order (GGUF's are un-permuted). Shapes were checked when the model was
// opened. REQUIRES: HasWeight of every kind that is read. Thread-safe.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // `out` has exactly rows * columns elements. Reads rows
  // [row_begin, row_begin + out.size() / columns). DATA_LOSS on a read error.
  virtual absl::Status ReadBf16(WeightKind kind, int32_t layer,
                                int64_t row_begin,
                                absl::Span<BFloat16> out) const = 0;
  // The same values before rounding to bf16 (norms; the reference runner).
  virtual absl::Status ReadFp32(WeightKind kind, int32_t layer,
                                int64_t row_begin,
                                absl::Span<float> out) const = 0;
  // What ReadStored reads; nothing where values are not simply those stored
  // (transposed, or with 1 added).
  virtual std::optional<StorageType> StoredAs(WeightKind kind,
                                              int32_t layer) const {
    return std::nullopt;
  }
  // The stored bytes of as many whole rows as `out` has room for. REQUIRES:
  // StoredAs has a value.
  virtual absl::Status ReadStored(WeightKind kind, int32_t layer,
                                  int64_t row_begin,
                                  absl::Span<char> out) const;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_WEIGHT_SOURCE_H_
