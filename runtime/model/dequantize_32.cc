// Loops have fixed lengths and no branches, so that they become vector code.
#include "runtime/model/dequantize_blocks.h"

namespace descant {
namespace {

constexpr int kHalf = 16;
constexpr int kElements = 32;

// Codes of element j in the low nibbles, of j + 16 in the high ones; bit i of
// `fifth` is the fifth bit of element i.
void Unpack5(const uint8_t* codes, uint32_t fifth, int32_t (&q)[kElements]) {
  for (int j = 0; j < kHalf; ++j) {
    q[j] = (codes[j] & 15) | static_cast<int32_t>(fifth >> j << 4 & 16);
    q[j + kHalf] =
        codes[j] >> 4 | static_cast<int32_t>(fifth >> (j + kHalf) << 4 & 16);
  }
}

}  // namespace

void DequantizeQ8_0(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 34, out += kElements) {
    const float scale = LoadHalf(source);
    for (int j = 0; j < kElements; ++j) {
      out[j] = static_cast<float>(static_cast<int8_t>(source[2 + j])) * scale;
    }
  }
}

void DequantizeQ4_0(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 18, out += kElements) {
    const float scale = LoadHalf(source);
    const uint8_t* const codes = source + 2;
    for (int j = 0; j < kHalf; ++j) {
      out[j] = static_cast<float>((codes[j] & 15) - 8) * scale;
    }
    for (int j = 0; j < kHalf; ++j) {
      out[j + kHalf] = static_cast<float>((codes[j] >> 4) - 8) * scale;
    }
  }
}

void DequantizeQ4_1(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 20, out += kElements) {
    const float scale = LoadHalf(source);
    const float minimum = LoadHalf(source + 2);
    const uint8_t* const codes = source + 4;
    for (int j = 0; j < kHalf; ++j) {
      out[j] = static_cast<float>(codes[j] & 15) * scale + minimum;
    }
    for (int j = 0; j < kHalf; ++j) {
      out[j + kHalf] = static_cast<float>(codes[j] >> 4) * scale + minimum;
    }
  }
}

void DequantizeQ5_0(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 22, out += kElements) {
    const float scale = LoadHalf(source);
    int32_t q[kElements];
    Unpack5(source + 6, LoadUnaligned<uint32_t>(source + 2), q);
    for (int j = 0; j < kElements; ++j) {
      out[j] = static_cast<float>(q[j] - 16) * scale;
    }
  }
}

void DequantizeQ5_1(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 24, out += kElements) {
    const float scale = LoadHalf(source);
    const float minimum = LoadHalf(source + 2);
    int32_t q[kElements];
    Unpack5(source + 8, LoadUnaligned<uint32_t>(source + 4), q);
    for (int j = 0; j < kElements; ++j) {
      out[j] = static_cast<float>(q[j]) * scale + minimum;
    }
  }
}

void DequantizeIQ4_NL(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 18, out += kElements) {
    const float scale = LoadHalf(source);
    float values[16];
    for (int j = 0; j < 16; ++j) {
      values[j] = scale * static_cast<float>(kIq4Levels[j]);
    }
    for (int j = 0; j < kHalf; ++j) {
      out[j] = values[source[2 + j] & 15];
      out[j + kHalf] = values[source[2 + j] >> 4];
    }
  }
}

}  // namespace descant
