#include "runtime/kernels/packing.h"

#include <algorithm>
#include <cstring>

namespace descant::kernels {

namespace {

template <typename Value>
void Pack(const Value* w, int64_t ldw, int32_t rows, int64_t k, int32_t width,
          Value* block) {
  if (rows < width || k % 2 != 0) {
    std::fill_n(block, RoundUp(k, 2) * width, Value{0});
  }
  // Two neighbours of a row are one word of the block. Words of a block's row
  // lie side by side, so the stores do.
  constexpr int64_t kWord = 2 * sizeof(Value);
  const int64_t pairs = k / 2;
  char* words = reinterpret_cast<char*>(block);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    const Value* source = w + 2 * pair;
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(words + (pair * width + row) * kWord, source + row * ldw,
                  kWord);
    }
  }
  for (int64_t row = 0; row < rows && k % 2 != 0; ++row) {
    block[pairs * width * 2 + row * 2] = w[row * ldw + k - 1];
  }
}

}  // namespace

void PackBlock(const bf16_t* w, int64_t ldw, int32_t rows, int64_t k,
               int32_t width, bf16_t* block) {
  Pack(w, ldw, rows, k, width, block);
}

void PackBlock(const int8_t* w, int64_t ldw, int32_t rows, int64_t k,
               int32_t width, int8_t* block) {
  Pack(w, ldw, rows, k, width, block);
}

}  // namespace descant::kernels
