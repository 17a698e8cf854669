// bf16 GEMM on packed blocks with fp32 arithmetic, for machines with AVX2 and
// FMA only: the halves of a pair are widened as they are read, first the even
// element of K, then the odd one.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

typedef int32_t __attribute__((may_alias)) PairBits;

constexpr int32_t kTileRows = 4;
constexpr int32_t kTileColumns = 16;

inline __m256 Even(__m256i pairs) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

inline __m256 Odd(__m256i pairs) {
  return _mm256_castsi256_ps(
      _mm256_and_si256(pairs, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}

// The halves of eight pairs of values, widened.
struct WidePairs {
  __m256 even;
  __m256 odd;
};

inline WidePairs LoadWide(const bf16_t* p) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {Even(pairs), Odd(pairs)};
}

inline WidePairs LoadWide(const int8_t* p) {
  const __m256i pairs = _mm256_cvtepi8_epi16(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return {
      _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(pairs, 16), 16)),
      _mm256_cvtepi32_ps(_mm256_srai_epi32(pairs, 16))};
}

inline __m256i SplatPair(const bf16_t* p) {
  return _mm256_set1_epi32(*reinterpret_cast<const PairBits*>(p));
}

template <int R, typename Value>
inline __attribute__((always_inline)) void Accumulate(
    int32_t k_pairs, const bf16_t* a, int64_t lda, const Value* b, int64_t ldb,
    __m256 (&c)[R][2]) {
  for (int32_t k = 0; k < k_pairs; ++k) {
    const WidePairs left = LoadWide(b);
    const WidePairs right = LoadWide(b + 16);
    _mm_prefetch(reinterpret_cast<const char*>(b) + 1024, _MM_HINT_T0);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256i pair = SplatPair(a + r * lda);
      const __m256 first = Even(pair);
      const __m256 second = Odd(pair);
      c[r][0] = _mm256_fmadd_ps(first, left.even, c[r][0]);
      c[r][1] = _mm256_fmadd_ps(first, right.even, c[r][1]);
      c[r][0] = _mm256_fmadd_ps(second, left.odd, c[r][0]);
      c[r][1] = _mm256_fmadd_ps(second, right.odd, c[r][1]);
    }
    a += 2;
    b += ldb;
  }
}

template <int R, typename Value>
void Tile(int32_t k_pairs, const bf16_t* a, int64_t lda, const Value* b,
          int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  __m256 sum[R][2];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    sum[r][0] = accumulate ? _mm256_loadu_ps(c + r * ldc) : _mm256_setzero_ps();
    sum[r][1] =
        accumulate ? _mm256_loadu_ps(c + r * ldc + 8) : _mm256_setzero_ps();
  }
  Accumulate<R>(k_pairs, a, lda, b, ldb, sum);
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    _mm256_storeu_ps(c + r * ldc, sum[r][0]);
    _mm256_storeu_ps(c + r * ldc + 8, sum[r][1]);
  }
}

template <typename Value>
using TileFn = void (*)(int32_t, const bf16_t*, int64_t, const Value*, int64_t,
                        float*, int64_t, bool);
template <typename Value>
constexpr TileFn<Value> kTiles[] = {&Tile<1, Value>, &Tile<2, Value>,
                                    &Tile<3, Value>, &Tile<4, Value>};

// Round to nearest even; NaN becomes a quiet NaN.
inline bf16_t Round(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  if (x != x) return static_cast<bf16_t>((bits | 0x00400000u) >> 16);
  return static_cast<bf16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

template <typename Value>
void Gemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
          const Value* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
  for (int32_t row = 0; row < m; row += kTileRows) {
    const int32_t rows = m - row < kTileRows ? m - row : kTileRows;
    for (int32_t n = 0; n < kColumnBlock; n += kTileColumns) {
      kTiles<Value>[rows - 1](k_pairs, a + row * lda, lda, b + 2 * n, ldb,
                              c + row * ldc + n, ldc, accumulate);
    }
  }
}

template <typename Value>
void Expand(const ExpandSegment* segments, int32_t count, int64_t block,
            int32_t begin, int32_t end, float* c, int64_t ldc) {
  for (int32_t i = 0; i < count; ++i) {
    const ExpandSegment& segment = segments[i];
    const int32_t first = segment.row_begin > begin ? segment.row_begin : begin;
    const int32_t last = segment.row_end < end ? segment.row_end : end;
    if (first >= last) continue;
    Gemm(last - first, segment.rank_pairs,
         segment.h + (first - segment.row_begin) * segment.h_stride,
         segment.h_stride,
         static_cast<const Value*>(segment.b) +
             block * segment.rank_pairs * 2 * kColumnBlock,
         2 * kColumnBlock, c + (first - begin) * ldc, ldc, /*accumulate=*/true);
  }
}

template <typename Value>
void Shrink(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
            const void* b, const float* scale, bf16_t* h, int64_t ldh) {
  alignas(64) float c[kTileRows][kRankBlock];
  for (int32_t row = 0; row < m; row += kTileRows) {
    const int32_t rows = m - row < kTileRows ? m - row : kTileRows;
    kTiles<Value>[rows - 1](k_pairs, a + row * lda, lda,
                            static_cast<const Value*>(b), 2 * kRankBlock, c[0],
                            kRankBlock, false);
    for (int32_t r = 0; r < rows; ++r) {
      for (int32_t n = 0; n < kRankBlock; ++n) {
        h[(row + r) * ldh + n] = Round(c[r][n] * scale[n]);
      }
    }
  }
}

}  // namespace

void GemmAvx2(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
              const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
              int64_t ldc, bool accumulate) {
  Gemm(m, k_pairs, a, lda, b, ldb, c, ldc, accumulate);
}

const LoraKernels kAvx2Lora = {&Shrink<bf16_t>, &Expand<bf16_t>};
const LoraKernels kAvx2LoraInt8 = {&Shrink<int8_t>, &Expand<int8_t>};

}  // namespace descant::kernels
