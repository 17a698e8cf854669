// Loops have fixed lengths and no branches, so that they become vector code.
#include "runtime/model/dequantize_blocks.h"

namespace descant {
namespace {

constexpr int kElements = 256;

// The eight 6-bit scales and minimums of Q4_K and Q5_K in 12 bytes: bytes 0-3
// and 4-7 hold scales and minimums 0-3 in their low six bits, and in their top
// two bits the top bits of scales and minimums 4-7, whose low nibbles are the
// low and high nibbles of bytes 8-11.
void UnpackScales(const uint8_t* packed, uint8_t (&scales)[8],
                  uint8_t (&minimums)[8]) {
  for (int j = 0; j < 4; ++j) {
    scales[j] = packed[j] & 63;
    minimums[j] = packed[4 + j] & 63;
    scales[4 + j] = (packed[8 + j] & 15) | (packed[j] >> 6 << 4);
    minimums[4 + j] = packed[8 + j] >> 4 | (packed[4 + j] >> 6 << 4);
  }
}

template <int n>
void ScaleCodes(const uint8_t (&codes)[n], float scale, float minimum,
                float* out) {
  for (int j = 0; j < n; ++j) {
    out[j] = scale * static_cast<float>(codes[j]) - minimum;
  }
}

}  // namespace

// 128 elements take 32 bytes of codes: elements 32 k + j, k < 4, are bits 2 k
// and 2 k + 1 of byte j.
void DequantizeQ2_K(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 84) {
    const uint8_t* scales = source;
    const float d = LoadHalf(source + 80);
    const float m = LoadHalf(source + 82);
    for (int half = 0; half < 2; ++half) {
      const uint8_t* const codes = source + 16 + 32 * half;
      for (int k = 0; k < 4; ++k) {
        for (int group = 0; group < 2; ++group, ++scales, out += 16) {
          uint8_t q[16];
          for (int j = 0; j < 16; ++j) {
            q[j] = codes[16 * group + j] >> (2 * k) & 3;
          }
          ScaleCodes(q, d * static_cast<float>(*scales & 15),
                     m * static_cast<float>(*scales >> 4), out);
        }
      }
    }
  }
}

// Codes as in Q2_K; bit k of byte j of the mask belongs to element 32 k + j.
// Scales: low nibbles of 0-7 and 8-15 are the nibbles of bytes 0-7, the top two
// bits of scale 4 k + j are bits 2 k and 2 k + 1 of byte 8 + j.
void DequantizeQ3_K(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 110) {
    const uint8_t* const packed = source + 96;
    const float d = LoadHalf(source + 108);
    float scales[16];
    for (int j = 0; j < 16; ++j) {
      const int low = packed[j % 8] >> (j / 8 * 4) & 15;
      const int high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
      scales[j] = d * static_cast<float>((low | high << 4) - 32);
    }
    for (int group = 0; group < 16; ++group, out += 16) {
      const uint8_t* const mask = source + group % 2 * 16;
      const uint8_t* const codes =
          source + 32 + group / 8 * 32 + group % 2 * 16;
      int8_t q[16];
      for (int j = 0; j < 16; ++j) {
        const int high = (mask[j] >> (group / 2) & 1) << 2;
        q[j] = static_cast<int8_t>((codes[j] >> (group % 8 / 2 * 2) & 3) +
                                   high - 4);
      }
      for (int j = 0; j < 16; ++j) {
        out[j] = scales[group] * static_cast<float>(q[j]);
      }
    }
  }
}

// 64 elements take 32 bytes: low nibbles, then high nibbles.
void DequantizeQ4_K(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 144) {
    const float d = LoadHalf(source);
    const float m = LoadHalf(source + 2);
    uint8_t scales[8];
    uint8_t minimums[8];
    UnpackScales(source + 4, scales, minimums);
    for (int group = 0; group < 8; ++group, out += 32) {
      const uint8_t* const codes = source + 16 + group / 2 * 32;
      const int shift = group % 2 * 4;
      uint8_t q[32];
      for (int j = 0; j < 32; ++j) q[j] = codes[j] >> shift & 15;
      ScaleCodes(q, d * static_cast<float>(scales[group]),
                 m * static_cast<float>(minimums[group]), out);
    }
  }
}

// As Q4_K; bit g of byte j of the mask is the fifth bit of element 32 g + j.
void DequantizeQ5_K(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 176) {
    const float d = LoadHalf(source);
    const float m = LoadHalf(source + 2);
    uint8_t scales[8];
    uint8_t minimums[8];
    UnpackScales(source + 4, scales, minimums);
    const uint8_t* const mask = source + 16;
    for (int group = 0; group < 8; ++group, out += 32) {
      const uint8_t* const codes = source + 48 + group / 2 * 32;
      const int shift = group % 2 * 4;
      uint8_t q[32];
      for (int j = 0; j < 32; ++j) {
        q[j] = (codes[j] >> shift & 15) | (mask[j] >> group & 1) << 4;
      }
      ScaleCodes(q, d * static_cast<float>(scales[group]),
                 m * static_cast<float>(minimums[group]), out);
    }
  }
}

// 128 elements take 64 bytes of low nibbles (elements j and 64 + j of byte j)
// and 32 of high bits (elements 32 k + j: bits 2 k and 2 k + 1 of byte j).
void DequantizeQ6_K(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 210) {
    const float d = LoadHalf(source + 208);
    const uint8_t* scales = source + 192;
    for (int part = 0; part < 8; ++part, out += 32) {
      const uint8_t* const low = source + part / 4 * 64 + part % 2 * 32;
      const uint8_t* const high = source + 128 + part / 4 * 32;
      const int low_shift = part % 4 / 2 * 4;
      const int high_shift = part % 4 * 2;
      int8_t q[32];
      for (int j = 0; j < 32; ++j) {
        q[j] = static_cast<int8_t>(
            ((low[j] >> low_shift & 15) | (high[j] >> high_shift & 3) << 4) -
            32);
      }
      for (int group = 0; group < 2; ++group, ++scales) {
        const float scale =
            d * static_cast<float>(static_cast<int8_t>(*scales));
        for (int j = 16 * group; j < 16 * group + 16; ++j) {
          out[j] = scale * static_cast<float>(q[j]);
        }
      }
    }
  }
}

// 32 elements take 16 bytes: low nibbles, then high nibbles.
void DequantizeIQ4_XS(const uint8_t* source, size_t blocks, float* out) {
  for (size_t i = 0; i < blocks; ++i, source += 136) {
    const float d = LoadHalf(source);
    const int high = LoadUnaligned<uint16_t>(source + 2);
    for (int group = 0; group < kElements / 32; ++group, out += 32) {
      const int low = source[4 + group / 2] >> (group % 2 * 4) & 15;
      const int code = low | (high >> (2 * group) & 3) << 4;
      const float scale = d * static_cast<float>(code - 32);
      float values[16];
      for (int j = 0; j < 16; ++j) {
        values[j] = scale * static_cast<float>(kIq4Levels[j]);
      }
      const uint8_t* const codes = source + 8 + 16 * group;
      for (int j = 0; j < 16; ++j) {
        out[j] = values[codes[j] & 15];
        out[j + 16] = values[codes[j] >> 4];
      }
    }
  }
}

}  // namespace descant
