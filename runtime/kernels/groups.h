// Weights in groups of 32 along K with a scale (and a minimum) each: GGUF's
// Q4_0, Q4_1 and Q8_0 (https://github.com/ggml-org/ggml, ggml-common.h), laid
// out for the kernels without a change of values. A weight is code * d (+ m);
// d and m are f16, the product is exact in fp32, the sum is rounded once, and
// the result is rounded to bf16. So what the kernels multiply by is bit for bit
// what a bf16 load of the same blocks packs.
//
// A block has 32 columns of W^T (packing.h). It is a run of groups along K:
//   codes   k4, k4Min: 512 bytes; k8: 1024 bytes
//   d       f16 [32], in the order of GroupScaleIndex
//   m       f16 [32], likewise; k4Min alone
// Codes of 8 bits lie as bf16 pairs do: [16 pairs][32 columns][2]. Those of 4
// bits are nibbles of 32-bit words [2 halves][32 columns][2 of a pair]: nibble
// i, from the low end, of half h belongs to pair 8 h + i.
#ifndef DESCANT_RUNTIME_KERNELS_GROUPS_H_
#define DESCANT_RUNTIME_KERNELS_GROUPS_H_

#include <cstdint>

#include "runtime/kernels/kernels.h"

namespace descant::kernels {

enum class GroupFormat : uint8_t {
  k4,     // (code - 8) d
  k4Min,  // code d + m
  k8,     // int8 code times d
};
inline constexpr int32_t kGroupFormats = 3;
inline constexpr int32_t kGroup = 32;

constexpr int64_t GroupCodeBytes(GroupFormat format) {
  return format == GroupFormat::k8 ? 1024 : 512;
}
// One group of the 32 columns of a block: a multiple of 64.
constexpr int64_t GroupBytes(GroupFormat format) {
  return GroupCodeBytes(format) + (format == GroupFormat::k4Min ? 128 : 64);
}
constexpr int64_t GroupBlockBytes(GroupFormat format, int64_t k_pairs) {
  return (2 * k_pairs + kGroup - 1) / kGroup * GroupBytes(format);
}
// Where the scale of a column is. Sixteen columns are in an order that two
// unpack instructions turn into lanes of (column, column) pairs.
constexpr int32_t GroupScaleIndex(int32_t column) {
  return (column & 16) + (column & 7) / 2 * 4 + (column >> 3 & 1) * 2 +
         (column & 1);
}

// One row of W in groups, as a source has it.
struct GroupRow {
  const uint8_t* codes;  // [k]: nibbles, or the bits of int8
  const uint16_t* d;     // [ceil(k / 32)], bits of f16
  const uint16_t* m;     // the same; k4Min alone
};
// Writes one row (column `column` of the block) of k elements. What lies past
// k in the last group is left alone. `block` was zero, so that rows never
// packed multiply as zero.
void PackGroupRow(GroupFormat format, const GroupRow& row, int64_t k,
                  int32_t column, uint8_t* block);
// The weight at (column, k) of a block, before it is rounded to bf16.
float UnpackGroup(GroupFormat format, const uint8_t* block, int32_t column,
                  int64_t k);

// out[k_pairs][32][2] = bf16 of the weights of the first k_pairs of `block`;
// 64-byte aligned, as the block. `next` is fetched meanwhile: the block this
// thread expands next, or null.
using GroupExpandFn = void (*)(int32_t k_pairs, const uint8_t* block,
                               const uint8_t* next, bf16_t* out);
// C[m, 32] = A[m, 2 * k_pairs] * block, m <= fused_rows: the bits of expand
// followed by gemm. Shapes and strides as GemmFn's.
using GroupGemmFn = void (*)(int32_t m, int32_t k_pairs, const bf16_t* a,
                             int64_t lda, const uint8_t* block, float* c,
                             int64_t ldc);

// By GroupFormat.
struct GroupKernels {
  GroupExpandFn expand[kGroupFormats];
  int32_t fused_rows;  // 0: gemm is null
  GroupGemmFn gemm[kGroupFormats];
};

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_GROUPS_H_
