// The base model's tensors, dequantised one at a time, so that a load never
// holds more than the packed weights and one layer.
#ifndef DESCANT_RUNTIME_MODEL_WEIGHT_SOURCE_H_
#define DESCANT_RUNTIME_MODEL_WEIGHT_SOURCE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/base/float16.h"
#include "runtime/model/model_config.h"

namespace descant {

enum class WeightKind {
  // Per layer.
  kAttentionNorm,  // [hidden]
  kQuery,          // [heads * head_dim, hidden]
  kKey,            // [kv_heads * head_dim, hidden]
  kValue,          // [kv_heads * head_dim, hidden]
  kAttentionOut,   // [hidden, heads * head_dim]
  kMlpNorm,        // [hidden]
  kGate,           // [intermediate, hidden]
  kUp,             // [intermediate, hidden]
  kDown,           // [hidden, intermediate]
  // Of the model: layer is ignored.
  kEmbedding,  // [vocab, hidden]
  kFinalNorm,  // [hidden]
  kHead,       // [vocab, hidden]; the embedding when tied
};

struct WeightShape {
  int64_t rows = 0;  // 1 for norms
  int64_t columns = 0;
};
WeightShape ShapeOf(const ModelConfig& config, WeightKind kind);

// Row-major [rows, columns] as in a Hugging Face checkpoint: y = x W^T, rows
// of q and k in Hugging Face's order (GGUF's are un-permuted). Shapes were
// checked when the model was opened. Thread-safe.
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
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_WEIGHT_SOURCE_H_
