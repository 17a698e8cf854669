// bf16 GEMM on packed blocks with vdpbf16ps.
//
// A tile of up to 12 rows by 32 columns stays in registers over the whole of
// K; each pair of A is broadcast once and used for both registers of columns.
// Every element has one accumulator and takes K in order, so its bits do not
// depend on the tile it falls into.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

// A pair of bf16 values, read where arrays of bf16 are.
typedef int32_t __attribute__((may_alias)) PairBits;

constexpr int32_t kTileRows = 12;
constexpr int32_t kShrinkRows = 6;
// How far ahead a stream of weights is fetched, in elements: 2 KiB.
constexpr int64_t kNear = 1024;
// A next block of up to this many elements is fetched whole instead.
constexpr int64_t kSmallBlock = 4096;

inline __m512bh LoadPairs(const bf16_t* p) {
  return (__m512bh)_mm512_loadu_si512(p);
}

inline __m512bh SplatPair(const bf16_t* p) {
  return (__m512bh)_mm512_set1_epi32(*reinterpret_cast<const PairBits*>(p));
}

// One pair of K: `a` points at it in row 0. Rows are reached from every third
// row, so that they take few address registers.
template <int R>
inline __attribute__((always_inline)) void Step(const bf16_t* const* a,
                                                int64_t lda, int32_t offset,
                                                const bf16_t* b,
                                                __m512 (&c)[R][2]) {
  __m512bh columns[2];
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) columns[v] = LoadPairs(b + 32 * v);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    const __m512bh pair = SplatPair(a[r / 3] + r % 3 * lda + offset);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      c[r][v] = _mm512_dpbf16_ps(c[r][v], pair, columns[v]);
    }
  }
}

// `kAhead` pairs of K out of every four are fetched from `ahead` on, a place
// laid out as `b`: all four of them when it is soon to be read.
template <int R, int kAhead>
inline __attribute__((always_inline)) void Accumulate(
    int32_t k_pairs, const bf16_t* a, int64_t lda, const bf16_t* b, int64_t ldb,
    const bf16_t* ahead, __m512 (&c)[R][2]) {
  const bf16_t* rows[(R + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (R + 2) / 3; ++i) rows[i] = a + 3 * i * lda;
  int32_t k = 0;
  for (; k + 4 <= k_pairs; k += 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      if (u < kAhead) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          _mm_prefetch(ahead + 32 * v, kAhead == 4 ? _MM_HINT_T0 : _MM_HINT_T1);
        }
        ahead += ldb;
      }
      Step<R>(rows, lda, 2 * u, b, c);
      b += ldb;
    }
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) rows[i] += 8;
  }
  for (; k < k_pairs; ++k) {
    Step<R>(rows, lda, 0, b, c);
    b += ldb;
#pragma GCC unroll 4
    for (int i = 0; i < (R + 2) / 3; ++i) rows[i] += 2;
  }
}

template <int R, int kAhead>
void Tile(int32_t k_pairs, const bf16_t* a, int64_t lda, const bf16_t* b,
          int64_t ldb, const bf16_t* ahead, float* c, int64_t ldc,
          bool accumulate) {
  __m512 sum[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    sum[r][0] = accumulate ? _mm512_loadu_ps(c + r * ldc) : _mm512_setzero_ps();
    sum[r][1] =
        accumulate ? _mm512_loadu_ps(c + r * ldc + 16) : _mm512_setzero_ps();
  }
  Accumulate<R, kAhead>(k_pairs, a, lda, b, ldb, ahead, sum);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    _mm512_storeu_ps(c + r * ldc, sum[r][0]);
    _mm512_storeu_ps(c + r * ldc + 16, sum[r][1]);
  }
}

// Four accumulators an element, for every fourth pair of K each: a row alone
// would otherwise wait for one multiplication after the other.
template <int R>
void ShrinkTile(int32_t k_pairs, const bf16_t* a, int64_t lda, const bf16_t* b,
                const float* scale, bf16_t* h, int64_t ldh) {
  __m512 sum[R][4];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) sum[r][u] = _mm512_setzero_ps();
  }
  int32_t k = 0;
  for (; k + 4 <= k_pairs; k += 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      const __m512bh columns = LoadPairs(b + 32 * u);
      _mm_prefetch(b + kNear + 32 * u, _MM_HINT_T0);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        sum[r][u] = _mm512_dpbf16_ps(sum[r][u], SplatPair(a + r * lda + 2 * u),
                                     columns);
      }
    }
    a += 8;
    b += 128;
  }
#pragma GCC unroll 3
  for (int u = 0; u < 3; ++u) {
    if (k + u >= k_pairs) break;
    const __m512bh columns = LoadPairs(b + 32 * u);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      sum[r][u] =
          _mm512_dpbf16_ps(sum[r][u], SplatPair(a + r * lda + 2 * u), columns);
    }
  }
  const __m512 scales = _mm512_loadu_ps(scale);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    const __m512 total = _mm512_add_ps(_mm512_add_ps(sum[r][0], sum[r][1]),
                                       _mm512_add_ps(sum[r][2], sum[r][3]));
    _mm256_storeu_si256(
        reinterpret_cast<__m256i*>(h + r * ldh),
        (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(total, scales)));
  }
}

using TileFn = void (*)(int32_t, const bf16_t*, int64_t, const bf16_t*, int64_t,
                        const bf16_t*, float*, int64_t, bool);
using ShrinkTileFn = void (*)(int32_t, const bf16_t*, int64_t, const bf16_t*,
                              const float*, bf16_t*, int64_t);

#define DESCANT_ROWS_1_TO_12(F) \
  { F(1), F(2), F(3), F(4), F(5), F(6), F(7), F(8), F(9), F(10), F(11), F(12) }
#define DESCANT_TILE_0(r) &Tile<r, 0>
#define DESCANT_TILE_1(r) &Tile<r, 1>
#define DESCANT_TILE_2(r) &Tile<r, 2>
#define DESCANT_TILE_4(r) &Tile<r, 4>
constexpr TileFn kTiles0[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_0);
constexpr TileFn kTiles1[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_1);
constexpr TileFn kTiles2[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_2);
constexpr TileFn kTiles4[] = DESCANT_ROWS_1_TO_12(DESCANT_TILE_4);
constexpr ShrinkTileFn kShrinkTiles[] = {&ShrinkTile<1>, &ShrinkTile<2>,
                                         &ShrinkTile<3>, &ShrinkTile<4>,
                                         &ShrinkTile<5>, &ShrinkTile<6>};

}  // namespace

// One tile streams B, so it fetches just ahead of itself. Several tiles read B
// from the second-level cache after the first: meanwhile memory would be idle,
// so they share the fetching of the next block.
void GemmAvx512(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
                int64_t ldc, bool accumulate) {
  int32_t tiles = (m + kTileRows - 1) / kTileRows;
  if (tiles == 1) {
    const bool whole = next != nullptr && k_pairs * ldb <= kSmallBlock;
    kTiles4[m - 1](k_pairs, a, lda, b, ldb, whole ? next : b + kNear, c, ldc,
                   accumulate);
    return;
  }
  const int32_t each = tiles > 3 ? 1 : 2;
  const TileFn* fetching = each == 1 ? kTiles1 : kTiles2;
  const int64_t share = k_pairs / 4 * each;
  for (int64_t fetched = 0; tiles > 0; --tiles, fetched += share) {
    // Tiles of nearly equal height.
    const int32_t rows = (m + tiles - 1) / tiles;
    const bool fetch = next != nullptr && fetched < k_pairs;
    const TileFn* variants = fetch ? fetching : kTiles0;
    variants[rows - 1](k_pairs, a, lda, b, ldb,
                       fetch ? next + fetched * ldb : b, c, ldc, accumulate);
    a += rows * lda;
    c += rows * ldc;
    m -= rows;
  }
}

void ShrinkAvx512(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                  const bf16_t* b, const float* scale, bf16_t* h, int64_t ldh) {
  int32_t tiles = (m + kShrinkRows - 1) / kShrinkRows;
  for (; tiles > 0; --tiles) {
    const int32_t rows = (m + tiles - 1) / tiles;
    kShrinkTiles[rows - 1](k_pairs, a, lda, b, scale, h, ldh);
    a += rows * lda;
    h += rows * ldh;
    m -= rows;
  }
}

}  // namespace descant::kernels
