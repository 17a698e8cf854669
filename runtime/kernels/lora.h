// Kernels of LoRA.
#ifndef DESCANT_RUNTIME_KERNELS_LORA_H_
#define DESCANT_RUNTIME_KERNELS_LORA_H_

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/layout.h"

namespace descant::kernels {

// Rows [row_begin, row_end) under one adapter: what a LoRA module adds to them.
struct ExpandSegment {
  const bf16_t* h;  // of row_begin, row stride h_stride, 2 * rank_pairs columns
  const void* b;    // [blocks][rank_pairs][32][2], values as LoraKernels says
  int64_t h_stride;
  int32_t rank_pairs;
  int32_t row_begin;
  int32_t row_end;
};

// C[row - begin, 32] += h B of block `block` of columns, for the rows of the
// segments within [begin, end). C: fp32, row stride ldc.
using ExpandFn = void (*)(const ExpandSegment* segments, int32_t count,
                          int64_t block, int32_t begin, int32_t end, float* c,
                          int64_t ldc);

// Memory that is to be fetched into the second-level cache.
struct FetchRange {
  const std::byte* at;
  int64_t bytes;  // a multiple of 512, or somewhat more is fetched
};
struct FetchRanges {
  const FetchRange* next = nullptr;
  const FetchRange* end = nullptr;
};
struct FetchStream {
  FetchRanges soon;   // read behind this product
  FetchRanges later;  // fetched behind `soon`
  // What is left of a range that was taken.
  const std::byte* at = nullptr;
  int64_t left = 0;

  bool empty() const {
    return left <= 0 && soon.next == soon.end && later.next == later.end;
  }
};

// The base weights' product (GemmFn) without accumulation, to the same bits.
// Where that leaves memory idle it fetches what is read next (adapters, keys
// and values), and takes what it fetched out of `beside`. Products of fewer
// rows than CpuKernels::gemm_beside_from fetch nothing.
using GemmBesideFn = void (*)(int32_t m, int32_t k_pairs, const bf16_t* a,
                              int64_t lda, const bf16_t* b, int64_t ldb,
                              const bf16_t* next, float* c, int64_t ldc,
                              FetchStream* beside);

// H[m, 16] = bf16(scale[16] * (A[m, 2 * k_pairs] * B[2 * k_pairs, 16])).
// B: [k_pairs][16][2], values as LoraKernels says. H: row stride ldh.
using ShrinkFn = void (*)(int32_t m, int32_t k_pairs, const bf16_t* a,
                          int64_t lda, const void* b, const float* scale,
                          bf16_t* h, int64_t ldh);

// For adapters whose matrices are kept as bf16, or as int8_t. The latter are
// widened as they are read, which is exact: the result is that of the same
// numbers in bf16 to the bit, but with AMX, where int8 goes without tiles.
struct LoraKernels {
  ShrinkFn shrink;
  ExpandFn expand;
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_LORA_H_
