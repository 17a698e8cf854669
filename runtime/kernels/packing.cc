#include "runtime/kernels/packing.h"

#include <algorithm>

namespace descant::kernels {

void PackBlock(const bf16_t* w, int64_t ldw, int32_t rows, int64_t k,
               int32_t width, bf16_t* block) {
  if (rows < width || k % 2 != 0) {
    std::fill_n(block, RoundUp(k, 2) * width, bf16_t{0});
  }
  for (int64_t row = 0; row < rows; ++row) {
    const bf16_t* source = w + row * ldw;
    bf16_t* target = block + row * 2;
    for (int64_t i = 0; i < k; ++i) {
      target[i / 2 * width * 2 + i % 2] = source[i];
    }
  }
}

}  // namespace descant::kernels
