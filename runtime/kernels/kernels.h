// The kernels of one CPU instruction set: a table of plain functions on raw
// pointers and sizes. Nothing here allocates, locks, throws or keeps state (but
// for how a thread's AMX tiles are configured, until end_region); every
// function may run on any number of threads at once.
//
// Determinism: every element of a result is computed by one fixed sequence of
// operations that depends on the sizes of K and on its own row alone. So the
// bits do not depend on how many rows a call has, on which row of the call an
// element is in, or on how work was split. Tables of different instruction
// sets differ in the last bits.
//
// bf16 values are their 16 bits. Matrices that kernels multiply by are packed
// in pairs along K (packing.h): element (k, n) of a block of `w` columns lies
// at [k / 2][n][k % 2].
#ifndef DESCANT_RUNTIME_KERNELS_KERNELS_H_
#define DESCANT_RUNTIME_KERNELS_KERNELS_H_

#include <cstdint>

#include "runtime/kernels/int8.h"
#include "runtime/kernels/layout.h"
#include "runtime/kernels/lora.h"

namespace descant::kernels {

// Tokens of a block of the KV cache; equals descant::kBlockSize.
inline constexpr int32_t kKvBlock = 32;
// Query rows (tokens times heads of a group) of one attention item, unless a
// single token has more.
inline constexpr int32_t kAttentionRows = 48;
// KV blocks whose scores share one step of the online softmax. Its borders
// are multiples of kKvBlock * kSoftmaxBlocks positions, so they belong to the
// position and not to the call.
inline constexpr int32_t kSoftmaxBlocks = 4;
// Positions of a part of attention, a multiple of those of a step. Sums start
// anew in each part and are merged in order, so that parts may be computed by
// different threads.
inline constexpr int32_t kAttentionPart = 1024;
static_assert(kAttentionPart % (kKvBlock * kSoftmaxBlocks) == 0);

// C[m, 32] = (accumulate ? C : 0) + A[m, 2 * k_pairs] * B[2 * k_pairs, 32].
// A: bf16, row stride lda. B: bf16 pairs, ldb elements from one pair of rows
// to the next (64 when packed alone). C: fp32, row stride ldc, 64-byte aligned
// rows are faster. `next`: what this thread multiplies by next, laid out as B,
// to be fetched meanwhile; or null.
using GemmFn = void (*)(int32_t m, int32_t k_pairs, const bf16_t* a,
                        int64_t lda, const bf16_t* b, int64_t ldb,
                        const bf16_t* next, float* c, int64_t ldc,
                        bool accumulate);

// Norm of one row, rounded. `padded` is n rounded up to 16; x, weight and bias
// are zero from n on. RMS norm ignores `bias`:
// out[i] = bf16(x[i] * weight[i] / sqrt(sum(x^2) / n + eps)). Layer norm:
// out[i] = bf16((x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]).
using NormFn = void (*)(const float* x, const float* weight, const float* bias,
                        int32_t n, int32_t padded, float eps, bf16_t* out);

// x[i] += y[i] * weight[i] / sqrt(sum(y^2) / n + eps), one row; padding as for
// NormFn. (Norm of what a block adds to the residual stream.)
using AddRmsNormFn = void (*)(const float* y, const float* weight, int32_t n,
                              int32_t padded, float eps, float* x);

// out[i] = x[i] * weight[i] / sqrt(sum(x^2) / n + eps): one head of q or k.
// All three have room for n rounded up to 16; weight is zero from n on.
using HeadNormFn = void (*)(const float* x, const float* weight, int32_t n,
                            float eps, float* out);

// x[r, 0:32] += c[r, 0:32]; row strides ldx and 32.
using ResidualAddFn = void (*)(int32_t rows, const float* c, float* x,
                               int64_t ldx);

// c[r, 0:32] += bias[0:32]; row stride ldc.
using BiasAddFn = void (*)(int32_t rows, const float* bias, float* c,
                           int64_t ldc);

// c[r, 0:32] = cap * tanh(c / cap), absolute error below 4e-7 * cap; row
// stride ldc.
using SoftCapFn = void (*)(int32_t rows, float cap, float* c, int64_t ldc);

// out[r, 0:32] = bf16(f(g) * u) and bf16(f(x)); row strides 32, 32 and ldo. f
// is silu, g / (1 + exp(-g)), or gelu with tanh,
// g / 2 * (1 + tanh(sqrt(2 / pi) (g + 0.044715 g^3))); relative error of f
// below 1e-6 (of gelu, where it isn't below 1e-6 itself).
using ActivateMulFn = void (*)(int32_t rows, const float* gate, const float* up,
                               bf16_t* out, int64_t ldo);
using ActivateFn = void (*)(int32_t rows, const float* x, bf16_t* out,
                            int64_t ldo);

// Rotates the pairs (i, i + half) of one head and rounds:
// out[i] = x[i] cos[i] - x[i + half] sin[i],
// out[i + half] = x[i + half] cos[i] + x[i] sin[i].
using RopeFn = void (*)(const float* x, const float* cos, const float* sin,
                        int32_t half, bf16_t* out);

// out[i] = bf16(x[i]), i < n.
using ToBf16Fn = void (*)(const float* x, int32_t n, bf16_t* out);

// Consecutive tokens of one sequence, all query heads of one KV head.
struct AttentionItem {
  // Query of token t and head g of the group: q + t * q_stride + g * head_dim.
  const bf16_t* q;
  int64_t q_stride;
  int32_t tokens;
  int32_t group;
  int32_t head_dim;        // even
  int32_t first_position;  // of token 0
  // A token at position p sees [p - window + 1, p]; 0: all of [0, p].
  int32_t window;
  // The KV cache of this layer and KV head. Physical block b starts at
  // kv + b * block_stride: K as [head_dim / 2][32][2], then, v_offset elements
  // on, V as [16][padded_dim][2] with padded_dim a multiple of 32.
  const bf16_t* kv;
  int64_t block_stride;
  int64_t v_offset;
  int32_t padded_dim;
  const int32_t* blocks;  // physical blocks in order of position
  // What this thread is likely to attend to next, from `next_position` on: its
  // first blocks are fetched meanwhile. Or null.
  const AttentionItem* next;
  int32_t next_position;
  float scale;      // of the scores
  float score_cap;  // scaled scores become cap * tanh(score / cap); 0: no cap
  bf16_t* out;      // laid out as q, row stride out_stride
  int64_t out_stride;
};

// out = softmax(cap(scale * q K^T)) V over the positions that the token sees.
// fp32 softmax, P rounded to bf16. Blocks that no token of the item sees are
// not read. REQUIRES: tokens * group <= AttentionRows(group). Every V element
// of the blocks read is finite or belongs to this sequence.
using AttentionFn = void (*)(const AttentionItem& item, void* workspace);

// The same in two goes. First each part by itself: positions from
// part * kAttentionPart on, AttentionPartialFloats(tokens * group, padded_dim)
// into `partial`. Then the merge of `count` consecutive ones, the first of
// them that of the first position which the item's first token sees, the last
// that of the last token. Writes item.out; overwrites `partials`.
using AttentionPartFn = void (*)(const AttentionItem& item, int32_t part,
                                 void* workspace, float* partial);
using AttentionMergeFn = void (*)(const AttentionItem& item, int32_t count,
                                  float* partials);

struct GroupKernels;  // groups.h

struct CpuKernels {
  const char* name;
  GemmFn gemm;  // base weights
  const LoraKernels* lora;
  const LoraKernels* lora_int8;
  const GroupKernels* groups;  // weights in groups
  NormFn rms_norm;
  NormFn layer_norm;
  AddRmsNormFn add_rms_norm;
  HeadNormFn head_norm;
  ResidualAddFn residual_add;
  BiasAddFn bias_add;
  SoftCapFn soft_cap;
  ActivateMulFn silu_mul;
  ActivateMulFn gelu_mul;
  ActivateFn silu;
  ActivateFn gelu;
  RopeFn rope;
  ToBf16Fn to_bf16;
  AttentionFn attention;
  AttentionPartFn attention_part;  // or null
  AttentionMergeFn attention_merge;
  Int8Kernels int8 = {};
  // Called by each thread at the end of a parallel region, or null.
  void (*end_region)();
  GemmBesideFn gemm_beside = nullptr;  // lora.h; or null
  int32_t gemm_beside_from = 0;        // rows with which it begins to fetch
  // `gemm` is LibTorch's: BrgemmPrepare it first, and never accumulate.
  bool gemm_is_brgemm = false;
};

// Most query rows of one attention item.
constexpr int32_t AttentionRows(int32_t group) {
  return group > kAttentionRows ? group : kAttentionRows / group * group;
}

// Floats of the sums of a part: output, its divisor in 16 lanes, and maximum.
constexpr int64_t AttentionPartialFloats(int32_t rows, int32_t padded_dim) {
  return int64_t{rows} * (padded_dim + 32);
}

// Bytes of workspace of one attention item; 64-byte aligned.
constexpr int64_t AttentionWorkspaceBytes(int32_t group, int32_t head_dim,
                                          int32_t padded_dim) {
  const int64_t rows = AttentionRows(group);
  const int64_t scores = kKvBlock * kSoftmaxBlocks;
  // Scores and the sums of two parts in fp32; P in bf16; q in either.
  return rows * (4 * (scores + 2 * (padded_dim + 32)) + 2 * scores +
                 4 * ((head_dim + 31) / 32 * 32));
}

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_KERNELS_H_
