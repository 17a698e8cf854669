// The base model's weights as the CPU kernels read them.
#ifndef DESCANT_RUNTIME_MODEL_CPU_RUNNER_WEIGHTS_H_
#define DESCANT_RUNTIME_MODEL_CPU_RUNNER_WEIGHTS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "runtime/kernels/arena.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/worker_pool.h"
#include "runtime/model/block_format.h"
#include "runtime/model/model_config.h"
#include "runtime/model/weight_source.h"

namespace descant {

// Sizes derived from a ModelConfig. Widths in columns are multiples of 32, so
// that a block never crosses from one matrix to the next.
struct CpuShape {
  explicit CpuShape(const ModelConfig& config);

  int32_t hidden;        // as in the config
  int32_t hidden_width;  // of the residual stream
  int32_t q_width;       // heads * head_dim
  int32_t kv_width;      // kv_heads * head_dim
  int32_t qkv_width;     // q_width + 2 * kv_width
  int32_t mlp_width;     // intermediate
  int32_t mlp_slices;    // gate and up: 2; up alone: 1
  int32_t vocab_width;   // vocabulary
  int32_t hidden_pairs;  // of K: hidden
  int32_t q_pairs;       // of K: heads * head_dim
  int32_t mlp_pairs;     // of K: intermediate
  // Row strides of bf16 matrices: a multiple of 32, and not of 1024, which
  // would put all rows of a tile into one set of the first-level cache.
  int64_t hidden_stride;
  int64_t q_stride;
  int64_t mlp_stride;
  // In bytes, of their int8 twins: a multiple of 64, and not of 1024.
  int64_t hidden_bytes;
  int64_t q_bytes;
  int64_t mlp_bytes;
  int64_t logits_stride;  // of fp32 logits, likewise, in elements
};

// Zero from `hidden` on. Layer norms alone have a bias.
struct CpuNorm {
  const float* weight = nullptr;  // [hidden_width]
  const float* bias = nullptr;    // [hidden_width]
};

// Packed blocks of 32 columns (see BlockFormat), and 32 elements of bias for
// each, or null.
struct CpuLinear {
  WeightType type = WeightType::kBf16;
  const BlockFormat* format = nullptr;
  const std::byte* blocks = nullptr;
  int64_t block_bytes = 0;
  const float* bias = nullptr;
};

// What the model has not is null.
struct CpuLayerWeights {
  CpuNorm attention_norm;
  CpuNorm mlp_norm;
  const float* attention_post_norm = nullptr;  // [hidden_width]
  const float* mlp_post_norm = nullptr;        // [hidden_width]
  // [head_dim rounded up to 16], zero from head_dim on.
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  CpuLinear qkv;  // q's blocks, then k's, then v's
  CpuLinear out;
  CpuLinear gate_up;  // gate's block, up's block, gate's, ...; or up's alone
  CpuLinear down;
};

// Where packed weights stay from one start to the next.
struct PackedWeightsPlace {
  std::string directory;  // empty: nowhere
  // Of all that decides their bytes: model, instruction set, type.
  std::string key;
};

// Immutable once loaded.
class CpuWeights {
 public:
  // Takes the packed weights from `place`, or reads every tensor once, 32 rows
  // at a time, on all workers, and writes them there on a thread of its own.
  // Cached ones are checked: checksums, and a sample of blocks packed anew.
  // What does not hold is logged and packed. Memory beyond the packed weights:
  // 32 rows a worker. Errors of `source`; RESOURCE_EXHAUSTED.
  static absl::StatusOr<std::unique_ptr<CpuWeights>> Load(
      const ModelConfig& config, const WeightSource& source,
      const BlockFormat& format, kernels::WorkerPool* pool,
      const PackedWeightsPlace& place = {});
  // Ends the writing, finished or not.
  ~CpuWeights();

  const CpuShape& shape() const { return shape_; }
  const CpuLayerWeights& layer(int32_t index) const { return layers_[index]; }
  const CpuLayerWeights* layers() const { return layers_.data(); }
  const CpuNorm& final_norm() const { return final_norm_; }
  const CpuLinear& head() const { return head_; }
  WeightType type() const { return head_.type; }
  uint64_t bytes() const { return arena_.size(); }
  // All that was packed, for tests.
  absl::Span<const std::byte> packed() const {
    return {arena_.data(), arena_.size()};
  }

  // x[0, hidden) = scaled embedding of `token`, and that of `position` where
  // positions are learned, in fp32. From the packed head when token embedding
  // and head are tied.
  void Embed(int32_t token, int32_t position, float* x) const;

 private:
  explicit CpuWeights(const ModelConfig& config)
      : shape_(config), embedding_scale_(config.embedding_scale) {}

  void WriteTo(const PackedWeightsPlace& place);

  CpuShape shape_;
  float embedding_scale_;
  kernels::Arena arena_;
  std::vector<CpuLayerWeights> layers_;
  CpuNorm final_norm_;
  CpuLinear head_;
  const kernels::bf16_t* embedding_ = nullptr;  // [vocab, hidden], or null
  const float* positions_ = nullptr;            // [positions, hidden], or null
  std::atomic<bool> stop_writing_{false};
  std::thread writer_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_RUNNER_WEIGHTS_H_
