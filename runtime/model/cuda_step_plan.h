// What a step on the device reads of its Batch: arrays of fixed places in one
// piece of memory, so that one copy brings them and a captured graph finds
// them. Pure bookkeeping: no device here.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_STEP_PLAN_H_
#define DESCANT_RUNTIME_MODEL_CUDA_STEP_PLAN_H_

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "runtime/core/batch.h"
#include "runtime/kernels/cuda/cuda_kernels.h"

namespace descant {

// Adapters that a row may have at once (overlapping segments). More of them are
// a failed step.
inline constexpr int32_t kMaxLoraRounds = 8;

// What the host has to know of an adapter in a slot.
struct CudaAdapter {
  uint32_t site_mask = 0;  // bit s: some layer has LoraSite s
  int32_t max_rank = 0;    // padded, of a site
};

// Chunks of so many rows go through the library's attention. For fewer the copy
// of their context should not be worth it (not measured).
inline constexpr int32_t kMinChunkRows = 16;

// Byte offsets, the same on the host and on the device. The last array is the
// longest, and copied only as far as it is used.
struct CudaStepLayout {
  // `gather_tokens`: of the contexts that one call of the library's attention
  // can have; 0: it is not used.
  CudaStepLayout(const BatchLimits& limits, int32_t gather_tokens);

  uint64_t tokens = 0;        // int32 [max_rows]; -1 - s: state slot s's last
  uint64_t positions = 0;     // int32 [max_rows]
  uint64_t places = 0;        // int32 [max_rows]
  uint64_t sequences = 0;     // int32 [max_rows]
  uint64_t output_rows = 0;   // int32 [max_outputs]; -1: padding
  uint64_t row_slots = 0;     // int32 [kMaxLoraRounds][max_rows]
  uint64_t row_weights = 0;   // float [kMaxLoraRounds][max_rows]
  uint64_t chunk_rows = 0;    // int32 [2 * max_sequences]: CudaChunkGroup
  uint64_t chunk_keys = 0;    // int32 [2 * max_sequences]
  uint64_t block_tables = 0;  // int32 [max_sequences][table_stride]
  uint64_t size = 0;
  int32_t table_stride = 0;
  int32_t max_rows = 0;
  int32_t gather_tokens = 0;
};

// The rows of a sequence's prefill, where their attention is the library's.
struct CudaChunk {
  int32_t sequence = 0;   // of the batch
  int32_t key_begin = 0;  // in its group
  int32_t keys = 0;       // its context, these rows included
};
// Chunks that go through it together: adjacent rows, and contexts that fit.
// Where each one's rows and keys begin in the group, and where the last one's
// end, is in the arrays chunk_rows and chunk_keys from `begins` on.
struct CudaChunkGroup {
  int32_t chunk_begin = 0;
  int32_t chunk_end = 0;
  int32_t begins = 0;
  int32_t row_begin = 0;  // of the batch
  int32_t row_end = 0;
  int32_t keys = 0;       // of all chunks
  int32_t most_rows = 0;  // of a chunk
  int32_t most_keys = 0;
};
// Of a step, in order of rows. No part of a graph's key: their attention is in
// no graph.
struct CudaChunks {
  std::vector<CudaChunk> chunks;
  std::vector<CudaChunkGroup> groups;
};

// What decides which launches a step has, and with which sizes: the key of a
// graph.
struct CudaStepShape {
  int32_t rows = 0;             // padded
  int32_t outputs = 0;          // padded
  int32_t lora_rounds = 0;      // most adapters of a row
  uint32_t site_mask = 0;       // LoraSites at which any of them has work
  int32_t lora_rank = 0;        // padded, of the highest of their ranks
  int32_t attention_parts = 0;  // padded, of the longest context
  bool prefill = false;  // a sequence has several rows that are no drafts

  friend auto operator<=>(const CudaStepShape&, const CudaStepShape&) = default;
};

// Rows of a step, padded: 1, 2, 4, 8, then multiples of 8 up to 64, of 32 up to
// 256, of 128 beyond; at most `most`.
int32_t PaddedRows(int32_t rows, int32_t most);

// Fills the host's copy, `arrays` of layout.size bytes; padding included.
// `adapter_in` gives the adapter of a slot of the batch. How many bytes are to
// be copied is in `bytes`, what the library's attention is to do in `chunks`.
// False: a row has more than kMaxLoraRounds adapters.
bool FillStep(const Batch& batch, const BatchLimits& limits,
              absl::FunctionRef<const CudaAdapter&(int32_t)> adapter_in,
              const CudaStepLayout& layout, std::byte* arrays,
              CudaStepShape* shape, uint64_t* bytes, CudaChunks* chunks);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_STEP_PLAN_H_
