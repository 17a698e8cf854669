#include "runtime/kernels/groups.h"

#include <cstring>

#include "runtime/base/float16.h"

namespace descant::kernels {
namespace {

constexpr int32_t kHalfPairs = 8;  // of which a word has nibbles

struct CodePlace {
  int64_t byte;
  int32_t shift;
};

// Of element `at` of a group's 32.
CodePlace PlaceOf(GroupFormat format, int32_t column, int32_t at) {
  const int32_t pair = at / 2;
  if (format == GroupFormat::k8) {
    return {int64_t{pair} * 2 * kColumnBlock + 2 * column + at % 2, 0};
  }
  const int64_t word =
      int64_t{pair / kHalfPairs} * 2 * kColumnBlock + 2 * column + at % 2;
  const int32_t nibble = pair % kHalfPairs;
  return {4 * word + nibble / 2, nibble % 2 * 4};
}

void StoreHalf(uint16_t bits, int32_t column, uint8_t* scales) {
  std::memcpy(scales + 2 * GroupScaleIndex(column), &bits, sizeof bits);
}

float LoadHalf(const uint8_t* scales, int32_t column) {
  Float16 half;
  std::memcpy(&half, scales + 2 * GroupScaleIndex(column), sizeof half);
  return ToFloat(half);
}

}  // namespace

void PackGroupRow(GroupFormat format, const GroupRow& row, int64_t k,
                  int32_t column, uint8_t* block) {
  for (int64_t first = 0; first < k; first += kGroup) {
    uint8_t* group = block + first / kGroup * GroupBytes(format);
    const int32_t count =
        static_cast<int32_t>(k - first < kGroup ? k - first : kGroup);
    for (int32_t i = 0; i < count; ++i) {
      const CodePlace place = PlaceOf(format, column, i);
      if (format == GroupFormat::k8) {
        group[place.byte] = row.codes[first + i];
        continue;
      }
      const int32_t others = group[place.byte] & ~(15 << place.shift);
      group[place.byte] = static_cast<uint8_t>(
          others | (row.codes[first + i] & 15) << place.shift);
    }
    uint8_t* scales = group + GroupCodeBytes(format);
    StoreHalf(row.d[first / kGroup], column, scales);
    if (format == GroupFormat::k4Min) {
      StoreHalf(row.m[first / kGroup], column, scales + 2 * kColumnBlock);
    }
  }
}

float UnpackGroup(GroupFormat format, const uint8_t* block, int32_t column,
                  int64_t k) {
  const uint8_t* group = block + k / kGroup * GroupBytes(format);
  const CodePlace place =
      PlaceOf(format, column, static_cast<int32_t>(k % kGroup));
  const uint8_t* scales = group + GroupCodeBytes(format);
  const float d = LoadHalf(scales, column);
  const uint8_t byte = group[place.byte];
  if (format == GroupFormat::k8) return static_cast<int8_t>(byte) * d;
  const int32_t code = byte >> place.shift & 15;
  if (format == GroupFormat::k4) return static_cast<float>(code - 8) * d;
  const float product = static_cast<float>(code) * d;
  return product + LoadHalf(scales + 2 * kColumnBlock, column);
}

}  // namespace descant::kernels
