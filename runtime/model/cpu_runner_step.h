// The forward pass of the CPU runner: one parallel region, phases separated by
// barriers. Each worker has a contiguous share of a phase's items, and takes
// from the others' when it is through. Who computes an item, and how rows are
// cut into items, never changes a bit of the result.
#ifndef DESCANT_RUNTIME_MODEL_CPU_RUNNER_STEP_H_
#define DESCANT_RUNTIME_MODEL_CPU_RUNNER_STEP_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/core/batch.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/worker_pool.h"
#include "runtime/model/cpu_phase_timer.h"
#include "runtime/model/cpu_runner_plan.h"
#include "runtime/model/cpu_runner_weights.h"
#include "runtime/model/kv_cache.h"
#include "runtime/model/model_config.h"
#include "runtime/model/sampler.h"
#include "runtime/model/weight_type.h"

namespace descant {

// Rows of a GEMM that share one pass over a block of weights.
inline constexpr int32_t kGemmRows = 64;

// Up to this many rows each worker quantises for itself: cheaper than to share
// the work and wait for the others.
inline constexpr int32_t kOwnQuantisedRows = 8;

// A step of up to this many rows may take LoRA by rows (PlanRowItem).
inline constexpr int32_t kMaxRowsByRow = 64;

// Keys and values that a worker fetches while it computes q, k and v, at most:
// what stays in its second-level cache beside the weights.
inline constexpr int64_t kFetchedKvBytes = int64_t{512} << 10;
inline constexpr int32_t kFetchedKvBlocks = 256;  // of a head

// Activations as kernels of int8 weights read them (kernels/int8.h).
struct QuantisedRows {
  uint8_t* values = nullptr;
  int64_t stride = 0;
  float* scales = nullptr;  // of each row
};

// Activations of a step, sized for the largest batch. Strides as in CpuShape.
struct CpuScratch {
  float* x;                       // residual stream [rows, hidden_width]
  float* qkv;                     // [rows, qkv_width]
  float* logits;                  // [outputs, logits_stride]
  kernels::bf16_t* normed;        // [rows, hidden_stride]
  kernels::bf16_t* q;             // [rows, q_stride]
  kernels::bf16_t* attended;      // [rows, q_stride]
  kernels::bf16_t* activated;     // [rows, mlp_stride]
  kernels::bf16_t* final_normed;  // [outputs, hidden_stride]
  float* projected;  // [rows, hidden_width]; with post norms, else null
  float* sums;       // [min(rows, kMaxRowsByRow), sums_stride]
  int64_t sums_stride;
  float* partials;  // AttentionPartialFloats of attention_sizes.split_rows
  // With int8 weights, else null.
  QuantisedRows normed_int8;  // [rows]
  QuantisedRows attended_int8;
  QuantisedRows activated_int8;
};

// What one worker has for itself.
struct CpuWorkerScratch {
  float* tiles[2];     // [kGemmRows, 32]
  float* head;         // [head_dim rounded up to 16]
  kernels::bf16_t* k;  // [head_dim]
  kernels::bf16_t* v;  // [head_dim]
  void* attention;     // AttentionWorkspaceBytes
  // Blocks of weights that were kept in groups, as bf16; else null.
  kernels::bf16_t* expanded[2];
  // kOwnQuantisedRows of the widest stride, with int8 weights.
  QuantisedRows quantised;
  SamplerScratch* sampler;
  // Of the current site, by slice; room for a segment of each sequence.
  std::vector<kernels::ExpandSegment> expands[kMaxSlices];
  // What this worker reads after the current item, and after the site.
  std::vector<kernels::FetchRange> soon;
  std::vector<kernels::FetchRange> later;
};

// How far a worker's share of a phase has been handed out.
struct alignas(64) ItemCounter {
  std::atomic<int32_t> taken{0};
};
// Phases whose counters are alive at once: one counts, one is cleared for
// later, and barriers keep them apart.
inline constexpr int32_t kCounterPhases = 4;

// Cosines and sines of a layer's rotation, [positions, half]. A half of 0
// rotates nothing.
struct RopeTable {
  const float* cos = nullptr;
  const float* sin = nullptr;
  int32_t half = 0;
};

// Everything a step reads and writes; owned by the runner.
struct CpuStepState {
  const ModelConfig* config = nullptr;
  const kernels::CpuKernels* kernels = nullptr;
  const kernels::LoraKernels* lora = nullptr;  // for lora_type
  AdapterWeightType lora_type = AdapterWeightType::kBf16;
  const CpuWeights* weights = nullptr;
  // [num_layers]: those of `weights`, or merged ones.
  const CpuLayerWeights* layers = nullptr;
  std::vector<RopeTable> rope;  // [num_layers]
  kernels::WorkerPool* pool = nullptr;
  KvCache* kv = nullptr;
  CpuScratch scratch;
  std::vector<CpuWorkerScratch> workers;
  std::vector<ItemCounter> counters;  // [kCounterPhases, workers], zero
  AttentionSizes attention_sizes;
  CpuPlan plan;
  const Batch* batch = nullptr;
  StepOutput* output = nullptr;
  CpuPhaseTimer* timer = nullptr;  // or null: nothing is timed
};

// Whether products of so many rows fetch, beside their weights, what follows.
inline bool FetchesBeside(const CpuStepState& state, int32_t rows) {
  return state.kernels->gemm_beside != nullptr &&
         rows >= state.kernels->gemm_beside_from &&
         state.weights->type() == WeightType::kBf16;
}

// Computes state->batch by state->plan: every worker calls it inside one
// region of the pool.
void RunCpuStep(CpuStepState* state, int32_t worker);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_RUNNER_STEP_H_
