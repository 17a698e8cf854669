// Layouts of packed matrices, and packing into them. Plain C++, not hot.
//
// A weight W [n, k] (y = x W^T) is packed as blocks of `width` columns of
// W^T: [ceil(n / width)][ceil(k / 2)][width][2], zero where it is padded. A
// block of 32 columns is two AMX tiles or two AVX-512 registers wide.
#ifndef DESCANT_RUNTIME_KERNELS_PACKING_H_
#define DESCANT_RUNTIME_KERNELS_PACKING_H_

#include <cstdint>

#include "runtime/kernels/kernels.h"

namespace descant::kernels {

constexpr int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Elements of W [n, k] packed in blocks of `width` columns.
constexpr int64_t PackedSize(int64_t n, int64_t k, int64_t width) {
  return RoundUp(n, width) * RoundUp(k, 2);
}

// Packs rows [0, rows) of W, row stride ldw, into one block; rows <= width.
// Writes the whole block: the padding too.
void PackBlock(const bf16_t* w, int64_t ldw, int32_t rows, int64_t k,
               int32_t width, bf16_t* block);
void PackBlock(const int8_t* w, int64_t ldw, int32_t rows, int64_t k,
               int32_t width, int8_t* block);

// Element (row n, column k) of the original W.
constexpr int64_t PackedIndex(int64_t n, int64_t k, int64_t columns,
                              int64_t width) {
  return n / width * width * RoundUp(columns, 2) + k / 2 * width * 2 +
         n % width * 2 + k % 2;
}

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_PACKING_H_
