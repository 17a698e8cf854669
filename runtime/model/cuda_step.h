// A forward pass on the device, as launches: what is computed between the copy
// of a step's arrays and its logits.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_STEP_H_
#define DESCANT_RUNTIME_MODEL_CUDA_STEP_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "runtime/model/cuda_adapter_pool.h"
#include "runtime/model/cuda_graphs.h"
#include "runtime/model/cuda_step_plan.h"
#include "runtime/model/cuda_weights.h"
#include "runtime/model/device.h"
#include "runtime/model/model_config.h"
#include "runtime/model/runner.h"

namespace descant {

// Keys and values of all layers, in pages of kBlockSize tokens.
class CudaKvCache {
 public:
  // Bytes of one block, all layers.
  static uint64_t BlockBytes(const ModelConfig& config);
  // INVALID_ARGUMENT: not even one block. Errors of the device.
  static absl::StatusOr<CudaKvCache> Create(const ModelConfig& config,
                                            uint64_t bytes, Device* device);

  int32_t num_blocks() const { return num_blocks_; }
  kernels::CudaKvLayer Layer(int32_t layer) const;

 private:
  DeviceMemory memory_;
  int32_t num_blocks_ = 0;
  uint64_t tensor_bytes_ = 0;  // of one layer's keys
};

// What had the library's attention.
struct CudaChunkCounts {
  uint64_t chunks = 0;
  uint64_t groups = 0;
};

// Parts of its depth that a shrink of so many rows is computed in.
int32_t ShrinkSplits(int32_t rows);

// Of contexts that are copied out of their pages for the library's attention:
// 32,768 tokens of an 8B Llama.
inline constexpr uint64_t kGatherBytes = uint64_t{128} << 20;

// Everything it is made with outlives it.
class CudaStep {
 public:
  struct Parts {
    const ModelConfig* config;
    const CudaWeights* weights;  // the base's
    const CudaKvCache* kv;
    const CudaAdapterPool* adapters;
    const int32_t* last_tokens;  // on the device, by state slot
    Device* device;
  };

  // Allocates all that steps within `limits` need, at most `gather_bytes` of it
  // for contexts of prefill. A sequence whose context does not fit there, and
  // every one of a model that the library's attention can't compute, goes
  // through our own kernel, row by row.
  static absl::StatusOr<std::unique_ptr<CudaStep>> Create(
      const Parts& parts, const BatchLimits& limits,
      uint64_t gather_bytes = kGatherBytes);

  const CudaStepLayout& layout() const { return layout_; }
  // The device's copy of the arrays.
  std::byte* arrays() const { return arrays_.data(); }
  // Of the arrays: [rows].
  const int32_t* tokens() const { return Array<int32_t>(layout_.tokens); }
  // Fp32 [outputs, logits_stride], capped where the model does.
  const float* logits() const { return logits_; }
  int64_t logits_stride() const { return logits_stride_; }

  // Positions that the model has: [0, positions()).
  int32_t positions() const { return positions_; }

  // Enqueues the pass over the arrays that are there; shape and chunks are
  // theirs. `weights` are the base's, or those with an adapter merged into
  // them, and live until the pass is done. A shape that comes again with the
  // same weights is captured, and replayed from then on.
  absl::Status Run(const std::shared_ptr<const CudaWeights>& weights,
                   const CudaStepShape& shape, const CudaChunks& chunks);

  // Of all passes.
  const StepKinds& kinds() const { return kinds_; }
  const CudaChunkCounts& chunk_counts() const { return chunk_counts_; }

 private:
  struct Pass {
    const CudaWeights& weights;
    const CudaStepShape& shape;
  };

  CudaStep(const Parts& parts, const BatchLimits& limits,
           int32_t gather_tokens);
  absl::Status Allocate(const BatchLimits& limits);
  absl::Status LoadRotations();

  absl::StatusOr<CudaGraphs::Pieces> Capture(const Pass& pass);
  // What lies before, between and after the attentions: num_layers + 1 pieces.
  absl::Status Piece(const Pass& pass, int32_t piece);
  absl::Status Whole(const Pass& pass, const CudaChunks& chunks);
  absl::Status Begin(const Pass& pass);
  absl::Status QkvOf(const Pass& pass, int32_t layer);
  absl::Status Attention(const CudaStepShape& shape, const CudaChunks& chunks,
                         int32_t layer);
  absl::Status AttendRows(const CudaStepShape& shape, int32_t layer,
                          int32_t row_begin, int32_t row_end);
  absl::Status AttendGroup(const CudaChunks& chunks,
                           const CudaChunkGroup& group, int32_t layer);
  absl::Status AfterAttention(const Pass& pass, int32_t layer);
  absl::Status Head(const Pass& pass);
  absl::Status Norm(const CudaNorm& norm, const float* post_weight,
                    int32_t rows, const int32_t* source_rows, bool add,
                    void* out);
  // y = x w^T + bias with the adapters on top.
  absl::Status Project(const CudaStepShape& shape, int32_t layer, LoraSite site,
                       const CudaLinear& linear, const void* x, void* y);
  absl::Status Lora(const CudaStepShape& shape, int32_t round, int32_t layer,
                    LoraSite site, const CudaLinear& linear, const void* x,
                    void* y);
  kernels::LoraTiles Tiles(int32_t round, int32_t rows) const;

  template <typename T>
  const T* Array(uint64_t offset) const {
    return arrays_.data<T>(offset);
  }

  const Parts parts_;
  const CudaStepLayout layout_;
  const int32_t max_slots_;
  const int32_t positions_;
  int32_t rows_at_once_ = 0;  // of attention in parts
  int64_t logits_stride_ = 0;
  DeviceMemory arrays_;
  DeviceMemory scratch_;
  // Into scratch_; half unless said otherwise.
  float* x_ = nullptr;  // the residual stream, fp32
  void* normed_ = nullptr;
  void* qkv_ = nullptr;
  void* attended_ = nullptr;
  void* delta_ = nullptr;
  void* gate_up_ = nullptr;
  void* activated_ = nullptr;
  void* final_normed_ = nullptr;
  void* half_logits_ = nullptr;
  float* logits_ = nullptr;  // fp32
  float* planes_ = nullptr;
  int32_t* tile_slots_ = nullptr;  // [kMaxLoraRounds][max tiles]
  int32_t* tile_rows_ = nullptr;   // [kMaxLoraRounds][max tiles][16]
  int32_t max_tiles_ = 0;
  float* partials_ = nullptr;
  void* gathered_keys_ = nullptr;  // [gather_tokens][kv_heads][head_dim]
  void* gathered_values_ = nullptr;
  // Of layers without and with a window, where their rotations differ.
  struct Rotations {
    DeviceMemory cos;  // float [positions][pairs]
    DeviceMemory sin;
    int32_t pairs = 0;
  };
  Rotations rotations_[2];
  CudaGraphs graphs_;
  StepKinds kinds_;
  CudaChunkCounts chunk_counts_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_STEP_H_
