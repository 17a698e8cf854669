// u8 by s8 GEMM on packed blocks with the 256-bit vpdpbusd of AVX-VNNI, which
// processors without AVX-512 have.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

typedef int32_t __attribute__((may_alias)) QuadBits;

constexpr int32_t kTileRows = 6;
constexpr int32_t kTileColumns = 16;
constexpr int64_t kQuad = 4 * kColumnBlock;

inline __m256i Load(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// 16 columns from `column` on.
template <int R>
void Tile(int32_t k, const uint8_t* a, int64_t lda, const float* a_scale,
          const std::byte* block, int32_t column, float* c, int64_t ldc) {
  __m256i sum[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    sum[r][0] = _mm256_setzero_si256();
    sum[r][1] = _mm256_setzero_si256();
  }
  const std::byte* b = block + kInt8HeaderBytes + 4 * column;
  for (int32_t i = 0; i < k; i += 4) {
    const __m256i columns[2] = {Load(b), Load(b + 32)};
    _mm_prefetch(reinterpret_cast<const char*>(b) + 1024, _MM_HINT_T0);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256i quad = _mm256_set1_epi32(
          *reinterpret_cast<const QuadBits*>(a + r * lda + i));
      sum[r][0] = _mm256_dpbusd_avx_epi32(sum[r][0], quad, columns[0]);
      sum[r][1] = _mm256_dpbusd_avx_epi32(sum[r][1], quad, columns[1]);
    }
    b += kQuad;
  }
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const std::byte* header = block + 4 * (column + 8 * v);
    const __m256 scale =
        _mm256_loadu_ps(reinterpret_cast<const float*>(header));
    const __m256i offset = Load(header + 4 * kColumnBlock);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 value =
          _mm256_cvtepi32_ps(_mm256_sub_epi32(sum[r][v], offset));
      const __m256 both = _mm256_mul_ps(_mm256_set1_ps(a_scale[r]), scale);
      _mm256_storeu_ps(c + r * ldc + 8 * v, _mm256_mul_ps(value, both));
    }
  }
}

using TileFn = void (*)(int32_t, const uint8_t*, int64_t, const float*,
                        const std::byte*, int32_t, float*, int64_t);
constexpr TileFn kTiles[] = {&Tile<1>, &Tile<2>, &Tile<3>,
                             &Tile<4>, &Tile<5>, &Tile<6>};

}  // namespace

void GemmInt8AvxVnni(int32_t m, int32_t k, const uint8_t* a, int64_t lda,
                     const float* a_scale, const std::byte* block,
                     const std::byte* /*next*/, float* c, int64_t ldc) {
  int32_t tiles = (m + kTileRows - 1) / kTileRows;
  for (; tiles > 0; --tiles) {
    const int32_t rows = (m + tiles - 1) / tiles;
    for (int32_t n = 0; n < kColumnBlock; n += kTileColumns) {
      kTiles[rows - 1](k, a, lda, a_scale, block, n, c + n, ldc);
    }
    a += rows * lda;
    a_scale += rows;
    c += rows * ldc;
    m -= rows;
  }
}

}  // namespace descant::kernels
