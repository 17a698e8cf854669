#include "runtime/model/vector_math.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "runtime/base/check.h"

namespace descant {
namespace {

using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));
using Double2 = double __attribute__((vector_size(16)));

constexpr int64_t kLanes = 4;
constexpr int64_t kUnroll = 4 * kLanes;
// Floats per block of the arg-max: the block that holds it is read twice.
constexpr int64_t kBlock = 1024;

inline Float4 Load(const float* source) {
  Float4 value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

inline void Store(float* target, Float4 value) {
  std::memcpy(target, &value, sizeof value);
}

struct BlockMax {
  float value;
  bool finite;
};

// 0 * x is NaN for infinities and NaN, and a sum keeps it.
BlockMax MaxOfBlock(const float* values, int64_t count) {
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  Float4 max[4];
  Float4 zero[4];
  for (int i = 0; i < 4; ++i) {
    max[i] = Float4{kLowest, kLowest, kLowest, kLowest};
    zero[i] = Float4{0, 0, 0, 0};
  }
  int64_t at = 0;
  for (; at + kUnroll <= count; at += kUnroll) {
    for (int i = 0; i < 4; ++i) {
      const Float4 value = Load(values + at + i * kLanes);
      max[i] = value > max[i] ? value : max[i];
      zero[i] += value * 0.0f;
    }
  }
  BlockMax result{kLowest, true};
  float zeros = 0;
  for (int i = 0; i < 4; ++i) {
    for (int lane = 0; lane < kLanes; ++lane) {
      result.value = std::max(result.value, max[i][lane]);
      zeros += zero[i][lane];
    }
  }
  for (; at < count; ++at) {
    result.value = std::max(result.value, values[at]);
    zeros += values[at] * 0.0f;
  }
  result.finite = zeros == 0.0f;
  return result;
}

// exp(x) for x <= 0 by 2^n * P(r), |r| <= ln(2) / 2: Taylor's polynomial of
// degree 7 has a truncation error of 5e-9 there.
inline Float4 ExpNonPositive(Float4 x) {
  constexpr float kLowest = -87.0f;
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  const Int4 tiny = x < kLowest;
  x = tiny ? Float4{kLowest, kLowest, kLowest, kLowest} : x;
  const Float4 rounded = x * kLog2E + kMagic;
  const Float4 n = rounded - kMagic;
  const Float4 r = (x - n * kLn2High) - n * kLn2Low;
  Float4 p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The low bits of `rounded` are n: shift them into the exponent.
  const Int4 result = (Int4)p + ((Int4)rounded << 23);
  return (Float4)(result & ~tiny);
}

}  // namespace

ArgMax FindArgMax(absl::Span<const float> values) {
  DESCANT_CHECK(!values.empty());
  const int64_t size = static_cast<int64_t>(values.size());
  int64_t best_begin = 0;
  float best = 0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    const BlockMax block =
        MaxOfBlock(values.data() + begin, std::min(kBlock, size - begin));
    if (!block.finite) return {0, 0, false};
    if (begin == 0 || block.value > best) {
      best = block.value;
      best_begin = begin;
    }
  }
  int64_t index = best_begin;
  while (values[index] != best) ++index;
  return {static_cast<int32_t>(index), best, true};
}

void ExpShifted(absl::Span<const float> values, float shift, float scale,
                absl::Span<float> out) {
  DESCANT_CHECK(out.size() == values.size());
  const int64_t size = static_cast<int64_t>(values.size());
  int64_t at = 0;
  for (; at + kLanes <= size; at += kLanes) {
    Store(out.data() + at,
          ExpNonPositive((Load(values.data() + at) - shift) * scale));
  }
  if (at < size) {
    float tail[kLanes] = {shift, shift, shift, shift};
    std::copy(values.begin() + at, values.end(), tail);
    Store(tail, ExpNonPositive((Load(tail) - shift) * scale));
    std::copy(tail, tail + (size - at), out.begin() + at);
  }
}

double SumInOrder(absl::Span<const float> values) {
  const int64_t size = static_cast<int64_t>(values.size());
  Double2 sums[4] = {};
  int64_t at = 0;
  for (; at + 8 <= size; at += 8) {
    for (int i = 0; i < 4; ++i) {
      sums[i] += Double2{values[at + 2 * i], values[at + 2 * i + 1]};
    }
  }
  double total = 0;
  for (const Double2& sum : sums) total += sum[0] + sum[1];
  for (; at < size; ++at) total += values[at];
  return total;
}

}  // namespace descant
