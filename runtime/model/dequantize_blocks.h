// One function for each block type: `blocks` blocks from `source` to `out`.
// Layouts: dequantize.h. Private to it.
#ifndef DESCANT_RUNTIME_MODEL_DEQUANTIZE_BLOCKS_H_
#define DESCANT_RUNTIME_MODEL_DEQUANTIZE_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "runtime/base/float16.h"

namespace descant {

// Blocks of 32 elements: dequantize_32.cc.
void DequantizeQ8_0(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ4_0(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ4_1(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ5_0(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ5_1(const uint8_t* source, size_t blocks, float* out);
void DequantizeIQ4_NL(const uint8_t* source, size_t blocks, float* out);

// Blocks of 256 elements: dequantize_256.cc.
void DequantizeQ2_K(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ3_K(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ4_K(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ5_K(const uint8_t* source, size_t blocks, float* out);
void DequantizeQ6_K(const uint8_t* source, size_t blocks, float* out);
void DequantizeIQ4_XS(const uint8_t* source, size_t blocks, float* out);

// Of the IQ4 types: value of each 4-bit code.
inline constexpr int8_t kIq4Levels[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

template <typename T>
T LoadUnaligned(const uint8_t* source) {
  T value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

inline float LoadHalf(const uint8_t* source) {
  return ToFloat(LoadUnaligned<Float16>(source));
}

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_DEQUANTIZE_BLOCKS_H_
