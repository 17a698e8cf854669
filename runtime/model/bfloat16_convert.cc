#include "runtime/model/bfloat16_convert.h"

#include "runtime/base/float16.h"

namespace descant {
namespace {

// The same bits either way.
bool HasAvx2() {
  static const bool has =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return has;
}

}  // namespace

void FloatToBFloat16(const float* from, int64_t count, kernels::bf16_t* to) {
  if (HasAvx2()) return FloatToBFloat16Avx2(from, count, to);
  for (int64_t i = 0; i < count; ++i) to[i] = ToBFloat16(from[i]).bits;
}

void HalfToBFloat16(const uint16_t* from, int64_t count, kernels::bf16_t* to) {
  if (HasAvx2()) return HalfToBFloat16Avx2(from, count, to);
  for (int64_t i = 0; i < count; ++i) {
    to[i] = ToBFloat16(ToFloat(Float16{from[i]})).bits;
  }
}

}  // namespace descant
