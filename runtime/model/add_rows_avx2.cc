// Compiled for AVX2 and FMA. Sealed: no inline function of others in it.
#include <immintrin.h>

#include <cstdint>

#include "runtime/model/add_rows.h"

namespace descant {
namespace {

constexpr int64_t kLanes = 8;
// Registers of sums: enough to keep two multipliers busy.
constexpr int64_t kSums = 8;

}  // namespace

void AddRowsAvx2(const float* factors, const float* rows, int64_t count,
                 int64_t columns, float* out) {
  int64_t i = 0;
  for (; i + kSums * kLanes <= columns; i += kSums * kLanes) {
    __m256 sums[kSums];
    for (int64_t s = 0; s < kSums; ++s) {
      sums[s] = _mm256_loadu_ps(out + i + s * kLanes);
    }
    for (int64_t r = 0; r < count; ++r) {
      const __m256 factor = _mm256_broadcast_ss(factors + r);
      const float* row = rows + r * columns + i;
      for (int64_t s = 0; s < kSums; ++s) {
        sums[s] =
            _mm256_fmadd_ps(factor, _mm256_loadu_ps(row + s * kLanes), sums[s]);
      }
    }
    for (int64_t s = 0; s < kSums; ++s) {
      _mm256_storeu_ps(out + i + s * kLanes, sums[s]);
    }
  }
  for (; i < columns; ++i) {
    float sum = out[i];
    for (int64_t r = 0; r < count; ++r) {
      // Rounded once, as in the loop above.
      sum = __builtin_fmaf(factors[r], rows[r * columns + i], sum);
    }
    out[i] = sum;
  }
}

}  // namespace descant
