// The kernels of the CUDA backend: a table of launches on raw pointers, sizes
// and a stream. No CUDA header: who calls them may be compiled by any compiler,
// and run on a machine without a device (the emulation in
// tests/testing/cuda_emulation has the same table).
//
// All pointers are into device memory unless said otherwise, and every launch
// is ordered on `stream` (a cudaStream_t; null: the default one). Nothing here
// allocates, synchronises or reads device memory on the host: sequences'
// lengths, slots and places are arrays on the device, so a captured graph of
// launches replays for any batch of the same padded number of rows.
//
// Padding: rows that a graph has and a batch has not are slot kNoSlot, place
// kNoPlace, and sequence kNoSequence. They are computed to something finite,
// write no cache, and nobody reads them.
//
// Determinism: no float atomics; a row's result depends on the row, on its
// adapter and on the constants of the launch (splits), not on other rows. One
// exception: kLoraGemvRows.
//
// "half" is the 16-bit type of the table, bf16 or fp16; sums are fp32. Strides
// are in elements, rows start at multiples of 16 bytes, and so do all arrays.
//
// Errors: UNAVAILABLE: no device or driver. INTERNAL: the launch failed.
#ifndef DESCANT_RUNTIME_KERNELS_CUDA_CUDA_KERNELS_H_
#define DESCANT_RUNTIME_KERNELS_CUDA_CUDA_KERNELS_H_

#include <cstdint>

#include "absl/status/status.h"

namespace descant::kernels {

enum class HalfType : uint8_t { kBf16, kFp16 };

inline constexpr int32_t kCudaNoSlot = -1;
inline constexpr int32_t kCudaNoPlace = -1;
inline constexpr int32_t kCudaNoSequence = -1;

// Tokens of a block of the KV cache; equals descant::kBlockSize.
inline constexpr int32_t kCudaKvBlock = 32;

// ---- LoRA: y[row] += weight[row] * (x[row] A^T * scale) B^T, each row with
// the adapter of its slot.

// Rows of one slot that are computed together.
inline constexpr int32_t kLoraTileRows = 16;
// Tiles of at most so many rows go another way through shrink and expand, one
// that reads an adapter once and wastes no product, but adds in another order.
// So the last bits of a row may depend on how many rows its tile has: at most
// these, or more. Nothing else about the other rows matters.
inline constexpr int32_t kLoraGemvRows = 4;
// Of one module.
inline constexpr int32_t kLoraMaxRank = 256;
// Ranks are padded to multiples of this with zero rows of A and columns of B.
inline constexpr int32_t kLoraRankPad = 8;
inline constexpr int32_t kLoraMaxSlices = 3;

// One site (modules that read the same x) of the adapter in a slot. Modules lie
// one below the other in A, each at a multiple of kLoraRankPad.
struct LoraSlice {
  const void* b = nullptr;  // half [columns, rank]
  int32_t rank = 0;         // padded; 0: the adapter leaves the module alone
  int32_t rank_begin = 0;   // its first column of h
};
struct LoraSlot {
  const void* a = nullptr;       // half [rank, in]
  const float* scale = nullptr;  // [rank]
  int32_t rank = 0;              // padded, of all modules; 0: nothing here
  LoraSlice slices[kLoraMaxSlices];
};

// Rows by slot in tiles of kLoraTileRows: made once a step, read by all sites.
struct LoraTiles {
  int32_t* slots = nullptr;  // [max_tiles], kCudaNoSlot behind the last tile
  int32_t* rows = nullptr;   // [max_tiles][kLoraTileRows], -1 behind the last
  int32_t max_tiles = 0;
};
// Enough for `rows` rows of any slots.
constexpr int32_t MaxLoraTiles(int32_t rows, int32_t slots) {
  const int32_t used = slots < rows ? slots : rows;
  const int32_t tiles =
      (rows + used * (kLoraTileRows - 1)) / kLoraTileRows + (used > 0 ? 1 : 0);
  return tiles < rows ? tiles : rows;
}

// Tiles in order of slot, rows of a slot in order.
struct RouteArgs {
  const int32_t* row_slots = nullptr;  // [rows]
  int32_t rows = 0;
  int32_t slots = 0;  // at most kMaxRouteSlots
  LoraTiles tiles;
  void* stream = nullptr;
};
inline constexpr int32_t kMaxRouteSlots = 4096;

// planes[split][tile * kLoraTileRows + i][r] = sum over the split's part of
// [0, in) of x[row][k] * A[r][k], r < the slot's rank. Split s has
// [s * span, (s + 1) * span), span = ShrinkSpan(in, splits).
struct ShrinkArgs {
  const void* x = nullptr;  // half [rows, in]
  int64_t x_stride = 0;
  int32_t in = 0;  // a multiple of 8
  const LoraSlot* slots = nullptr;
  LoraTiles tiles;
  float* planes = nullptr;  // [splits][max_tiles * kLoraTileRows][plane_stride]
  int32_t plane_stride = 0;  // at least the largest rank, a multiple of 8
  int32_t splits = 1;
  void* stream = nullptr;
};
// Of depth, of a split: a multiple of 64.
constexpr int32_t ShrinkSpan(int32_t in, int32_t splits) {
  return ((in + splits - 1) / splits + 63) / 64 * 64;
}

// y[row][slice.begin + c] += weight[row] * sum over r of
// half(scale[r] * sum of planes[.][row][r]) * B[c][r], in the order of planes.
// The sum is added in fp32 to y, which is rounded once.
struct ExpandArgs {
  const float* planes = nullptr;
  int32_t plane_stride = 0;
  int32_t splits = 1;
  const LoraSlot* slots = nullptr;
  LoraTiles tiles;
  const float* row_weights = nullptr;  // [rows]; null: 1
  void* y = nullptr;                   // half [rows, ...]
  int64_t y_stride = 0;
  int32_t slices = 1;
  int32_t slice_begin[kLoraMaxSlices] = {};    // column of y, a multiple of 8
  int32_t slice_columns[kLoraMaxSlices] = {};  // a multiple of 8
  void* stream = nullptr;
};

// ---- The rest of a layer

// x[row] = scale * embedding[token] (+ position_embedding[position]), in fp32.
// A negative token -1 - s stands for last_tokens[s].
struct EmbedArgs {
  const int32_t* tokens = nullptr;     // [rows]
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* last_tokens = nullptr;
  int32_t rows = 0;
  const void* embedding = nullptr;           // half [vocab, width]
  const void* position_embedding = nullptr;  // half [positions, width] or null
  int32_t width = 0;                         // a multiple of 8
  float scale = 1;
  float* x = nullptr;
  int64_t x_stride = 0;
  void* stream = nullptr;
};

// x[source] += delta[source] (or its RMS norm with post_weight), then
// out[row] = half(norm(x[source])), where source is source_rows[row] or row.
// Sources differ where there is a delta; a negative one is none: out = 0.
// RMS: x / sqrt(mean(x^2) + eps) * weight. Layer norm, where `bias` is given:
// (x - mean) / sqrt(variance + eps) * weight + bias.
inline constexpr int32_t kMaxNormWidth = 16384;
struct NormArgs {
  float* x = nullptr;  // [., width]
  int64_t x_stride = 0;
  const void* delta = nullptr;  // half [., width] or null
  int64_t delta_stride = 0;
  const float* post_weight = nullptr;  // [width] or null
  const int32_t* source_rows = nullptr;
  int32_t rows = 0;
  int32_t width = 0;  // a multiple of 8, at most kMaxNormWidth
  const float* weight = nullptr;
  const float* bias = nullptr;
  float eps = 0;
  void* out = nullptr;  // half [rows, width]
  int64_t out_stride = 0;
  void* stream = nullptr;
};

// Keys and values of one layer: half
// [blocks][kv_heads][kCudaKvBlock][head_dim].
struct CudaKvLayer {
  void* keys = nullptr;
  void* values = nullptr;
};

// q (in place) and k are normed where there are weights, and rotated: pairs
// (i, i + rotary_half), cos and sin by position; then k and v go to the cache.
// Column order of qkv: heads * head_dim of q, kv_heads * head_dim of k, of v.
struct RopeArgs {
  void* qkv = nullptr;  // half [rows, ...]
  int64_t qkv_stride = 0;
  int32_t rows = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;                // a multiple of 8, at most 256
  const int32_t* positions = nullptr;  // [rows]
  // [rows]: block * kCudaKvBlock + offset, or kCudaNoPlace.
  const int32_t* places = nullptr;
  const float* cos = nullptr;  // [positions][rotary_half]
  const float* sin = nullptr;
  int32_t rotary_half = 0;        // 0: no rotation
  const float* q_norm = nullptr;  // [head_dim] or null
  const float* k_norm = nullptr;
  float eps = 0;
  CudaKvLayer kv;
  void* stream = nullptr;
};

// out[row] = softmax(cap(scale * q K^T)) V over the positions that the row
// sees, of the pages of its sequence: [0, position], or the last `window` of
// them. The context is split in parts of kAttentionSplit positions, from 0 on;
// their results are merged in order. Any row may be one of a prefill: its
// chunk's keys are in the cache.
inline constexpr int32_t kAttentionSplit = 256;
struct CudaAttentionArgs {
  const void* q = nullptr;  // half [rows, heads * head_dim]
  int64_t q_stride = 0;
  int32_t rows = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;                   // a multiple of 8, at most 256
  const int32_t* positions = nullptr;     // [rows]
  const int32_t* sequences = nullptr;     // [rows], or kCudaNoSequence: out = 0
  const int32_t* block_tables = nullptr;  // [sequences][table_stride]
  int32_t table_stride = 0;
  int32_t window = 0;  // 0: everything
  float scale = 1;
  float cap = 0;  // 0: none
  CudaKvLayer kv;
  // Of the longest context that this launch may meet: the grid. At least 1.
  int32_t max_splits = 1;
  // [rows][heads][max_splits][head_dim + 2]: sums, their divisor, the maximum.
  // Not needed where max_splits is 1.
  float* partials = nullptr;
  void* out = nullptr;  // half [rows, heads * head_dim]
  int64_t out_stride = 0;
  void* stream = nullptr;
};

// Keys and values of consecutive positions, out of their pages, for a library's
// attention: out[i] = position i of the sequence, [tokens][kv_heads][head_dim].
struct GatherKvArgs {
  CudaKvLayer kv;
  const int32_t* block_table = nullptr;  // of the sequence
  int32_t tokens = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  void* keys = nullptr;
  void* values = nullptr;
  void* stream = nullptr;
};

// out = half(f(gate) * up), or half(f(up)) without a gate. gate_up: gate in
// columns [0, width), up in [width, 2 * width); or up alone in [0, width).
enum class CudaActivation : uint8_t { kSilu, kGeluTanh };
struct ActivateArgs {
  const void* gate_up = nullptr;
  int64_t gate_up_stride = 0;
  int32_t rows = 0;
  int32_t width = 0;  // a multiple of 8
  bool gated = true;
  CudaActivation activation = CudaActivation::kSilu;
  void* out = nullptr;
  int64_t out_stride = 0;
  void* stream = nullptr;
};

// Zeroes whole blocks of one layer's cache.
struct ClearBlocksArgs {
  CudaKvLayer kv;
  const int32_t* blocks = nullptr;  // [count]
  int32_t count = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  void* stream = nullptr;
};

// out = cap * tanh(logit / cap), in fp32; just the logit where cap is 0.
struct WidenLogitsArgs {
  const void* logits = nullptr;  // half [rows, columns]
  int64_t logits_stride = 0;
  int32_t rows = 0;
  int32_t columns = 0;  // a multiple of 8
  float cap = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  void* stream = nullptr;
};

// Of cuda_sampling.h.
struct SampleArgs;
struct AcceptArgs;

struct CudaKernels {
  absl::Status (*route)(const RouteArgs&);
  absl::Status (*shrink)(const ShrinkArgs&);
  absl::Status (*expand)(const ExpandArgs&);
  absl::Status (*embed)(const EmbedArgs&);
  absl::Status (*norm)(const NormArgs&);
  absl::Status (*rope)(const RopeArgs&);
  absl::Status (*attention)(const CudaAttentionArgs&);  // and the merge
  absl::Status (*gather_kv)(const GatherKvArgs&);
  absl::Status (*activate)(const ActivateArgs&);
  absl::Status (*clear_blocks)(const ClearBlocksArgs&);
  absl::Status (*widen_logits)(const WidenLogitsArgs&);
  absl::Status (*sample)(const SampleArgs&);
  absl::Status (*accept_drafts)(const AcceptArgs&);  // after sample
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CUDA_CUDA_KERNELS_H_
