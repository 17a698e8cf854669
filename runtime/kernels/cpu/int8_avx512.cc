// u8 by s8 GEMM on packed blocks with vpdpbusd. Tiles and fetching are those
// of the bf16 kernel (gemm_avx512.cc): up to 12 rows by 32 columns in
// registers over the whole of K.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

// Four values of A, read where arrays of bytes are.
typedef int32_t __attribute__((may_alias)) QuadBits;

constexpr int32_t kTileRows = 12;
// Bytes of four rows of K.
constexpr int64_t kQuad = 4 * kColumnBlock;
// How far ahead a stream of weights is fetched, in bytes: what several rows are
// multiplied by in the time that memory takes to answer. The next block lies
// behind this one.
constexpr int64_t kNear = 16384;

inline __m512i SplatQuad(const uint8_t* p) {
  return _mm512_set1_epi32(*reinterpret_cast<const QuadBits*>(p));
}

// sum += products of four bytes each. As assembly: GCC 12 keeps fewer tiles in
// registers with the intrinsic, and spills from 10 rows on (12 rows: 743 GOP/s
// instead of 1024, of 1045 there are).
inline __attribute__((always_inline)) void MultiplyAdd(__m512i a, __m512i b,
                                                       __m512i* sum) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

// Four rows of K; A's are `offset` on.
template <int R>
inline __attribute__((always_inline)) void Step(const uint8_t* const* a,
                                                int64_t lda, int32_t offset,
                                                const std::byte* b,
                                                __m512i (&c)[R][2]) {
  const __m512i left = _mm512_loadu_si512(b);
  const __m512i right = _mm512_loadu_si512(b + 64);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    const __m512i quad = SplatQuad(a[r / 3] + r % 3 * lda + offset);
    MultiplyAdd(quad, left, &c[r][0]);
    MultiplyAdd(quad, right, &c[r][1]);
  }
}

// k: a multiple of 16. For every eight cache lines read `kAhead` are fetched
// from `ahead` on: all eight when they are soon to be read.
template <int R, int kAhead>
inline __attribute__((always_inline)) void Accumulate(
    int32_t k, const uint8_t* a, int64_t lda, const std::byte* b,
    const std::byte* ahead, __m512i (&c)[R][2]) {
  const uint8_t* rows[(R + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (R + 2) / 3; ++i) rows[i] = a + 3 * i * lda;
  for (; k > 0; k -= 16) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
#pragma GCC unroll 2
      for (int line = u * kAhead / 4; line < (u + 1) * kAhead / 4; ++line) {
        _mm_prefetch(reinterpret_cast<const char*>(ahead) + 64 * line,
                     kAhead == 8 ? _MM_HINT_T0 : _MM_HINT_T1);
      }
      Step<R>(rows, lda, 4 * u, b, c);
      b += kQuad;
    }
    ahead += 64 * kAhead;
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) rows[i] += 16;
  }
}

template <int R, int kAhead>
void Tile(int32_t k, const uint8_t* a, int64_t lda, const float* a_scale,
          const std::byte* block, const std::byte* ahead, float* c,
          int64_t ldc) {
  __m512i sum[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    sum[r][0] = _mm512_setzero_si512();
    sum[r][1] = _mm512_setzero_si512();
  }
  Accumulate<R, kAhead>(k, a, lda, block + kInt8HeaderBytes, ahead, sum);
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    const __m512 scale = _mm512_loadu_ps(block + 64 * v);
    const __m512i offset = _mm512_loadu_si512(block + 128 + 64 * v);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const __m512 value =
          _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[r][v], offset));
      const __m512 both = _mm512_mul_ps(_mm512_set1_ps(a_scale[r]), scale);
      _mm512_storeu_ps(c + r * ldc + 16 * v, _mm512_mul_ps(value, both));
    }
  }
}

using TileFn = void (*)(int32_t, const uint8_t*, int64_t, const float*,
                        const std::byte*, const std::byte*, float*, int64_t);

#define DESCANT_ROWS_1_TO_12(F) \
  { F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12) }
#define DESCANT_TILE_0(r) &Tile<r, 0>
#define DESCANT_TILE_2(r) &Tile<r, 2>
#define DESCANT_TILE_3(r) &Tile<r, 3>
#define DESCANT_TILE_4(r) &Tile<r, 4>
#define DESCANT_TILE_8(r) &Tile<r, 8>
constexpr TileFn kTiles0[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_0);
constexpr TileFn kTiles2[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_2);
constexpr TileFn kTiles3[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_3);
constexpr TileFn kTiles4[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_4);
constexpr TileFn kTiles8[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_8);

}  // namespace

void GemmInt8Avx512(int32_t m, int32_t k, const uint8_t* a, int64_t lda,
                    const float* a_scale, const std::byte* block,
                    const std::byte* next, float* c, int64_t ldc) {
  int32_t tiles = (m + kTileRows - 1) / kTileRows;
  const int64_t bytes = int64_t{k} * kColumnBlock;
  if (tiles == 1) {
    kTiles8[m - 1](k, a, lda, a_scale, block, block + kInt8HeaderBytes + kNear,
                   c, ldc);
    return;
  }
  // Evenly: memory is then busy all the time.
  const int32_t each = tiles > 3 ? 2 : (tiles == 3 ? 3 : 4);
  const TileFn* fetching =
      each == 2 ? kTiles2 : (each == 3 ? kTiles3 : kTiles4);
  const int64_t share = bytes / 8 * each;
  for (int64_t fetched = 0; tiles > 0; --tiles, fetched += share) {
    // Tiles of nearly equal height.
    const int32_t rows = (m + tiles - 1) / tiles;
    const bool fetch = next != nullptr && fetched < bytes;
    const TileFn* variants = fetch ? fetching : kTiles0;
    variants[rows - 1](k, a, lda, a_scale, block,
                       fetch ? next + fetched : block, c, ldc);
    a += rows * lda;
    a_scale += rows;
    c += rows * ldc;
    m -= rows;
  }
}

}  // namespace descant::kernels
