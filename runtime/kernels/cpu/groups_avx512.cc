// Weights in groups with AVX-512 BF16.
//
// A register has both elements of a pair for eight columns, so that rounding
// two registers to bf16 gives the pairs of sixteen columns as GemmAvx512 reads
// them. A nibble becomes a float by a look-up among sixteen, which ignores the
// bits above it: a shift by four is all that the next one takes.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/groups.h"

namespace descant::kernels {
namespace {

typedef int32_t __attribute__((may_alias)) PairBits;

constexpr int32_t kGroupPairs = kGroup / 2;
constexpr int32_t kFusedRows = 8;
// How far ahead of itself a stream of groups is fetched.
constexpr int64_t kAheadBytes = 4096;

// The scales of 32 columns, each in both lanes of its pair.
inline void LoadScales(const uint8_t* p, __m512 (&out)[4]) {
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    const __m512 x = _mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 32 * h)));
    out[2 * h] = _mm512_unpacklo_ps(x, x);
    out[2 * h + 1] = _mm512_unpackhi_ps(x, x);
  }
}

inline __m512 Levels(float first) {
  return _mm512_add_ps(
      _mm512_set1_ps(first),
      _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
}

// Goes through the pairs of a group, first to last.
template <GroupFormat kFormat>
struct Decoder {
  __m512 levels = Levels(kFormat == GroupFormat::k4 ? -8.0f : 0.0f);
  __m512 d[4];
  __m512 m[4];
  __m512i codes[4];
  const uint8_t* at;

  inline __attribute__((always_inline)) void Group(const uint8_t* group) {
    at = group;
    const uint8_t* scales = group + GroupCodeBytes(kFormat);
    LoadScales(scales, d);
    if (kFormat == GroupFormat::k4Min) LoadScales(scales + 64, m);
  }

  inline __attribute__((always_inline)) void Half() {
    if (kFormat == GroupFormat::k8) return;
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) codes[c] = _mm512_loadu_si512(at + 64 * c);
    at += 256;
  }

  inline __attribute__((always_inline)) void Pair(__m512bh (&columns)[2]) {
    __m512 w[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      if (kFormat == GroupFormat::k8) {
        const __m128i bytes =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * c));
        w[c] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)),
                             d[c]);
        continue;
      }
      const __m512 level = _mm512_permutexvar_ps(codes[c], levels);
      codes[c] = _mm512_srli_epi32(codes[c], 4);
      w[c] = kFormat == GroupFormat::k4 ? _mm512_mul_ps(level, d[c])
                                        : _mm512_fmadd_ps(level, d[c], m[c]);
    }
    if (kFormat == GroupFormat::k8) at += 64;
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      columns[v] = _mm512_cvtne2ps_pbh(w[2 * v + 1], w[2 * v]);
    }
  }
};

// The share of a group's lines that goes with pair `p` of it.
template <GroupFormat kFormat>
inline __attribute__((always_inline)) void Fetch(const uint8_t* group, int p) {
  constexpr int kLines = GroupBytes(kFormat) / 64;
  static_assert(kLines <= kGroupPairs + 1);
  if (p < kLines) _mm_prefetch(group + 64 * p, _MM_HINT_T0);
  if (p == 0 && kLines > kGroupPairs) {
    _mm_prefetch(group + 64 * kGroupPairs, _MM_HINT_T0);
  }
}

// The first `pairs` pairs of a group.
template <GroupFormat kFormat>
void ExpandRest(const uint8_t* group, int32_t pairs, bf16_t* out) {
  Decoder<kFormat> decoder;
  decoder.Group(group);
  for (int32_t p = 0; p < pairs; ++p) {
    if (p % 8 == 0) decoder.Half();
    __m512bh columns[2];
    decoder.Pair(columns);
    _mm512_storeu_si512(out + 64 * p, (__m512i)columns[0]);
    _mm512_storeu_si512(out + 64 * p + 32, (__m512i)columns[1]);
  }
}

template <GroupFormat kFormat>
void Expand(int32_t k_pairs, const uint8_t* block, const uint8_t* next,
            bf16_t* out) {
  const int64_t ahead = next != nullptr ? next - block : kAheadBytes;
  Decoder<kFormat> decoder;
  for (; k_pairs >= kGroupPairs; k_pairs -= kGroupPairs) {
    decoder.Group(block);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      decoder.Half();
#pragma GCC unroll 8
      for (int p = 0; p < 8; ++p) {
        Fetch<kFormat>(block + ahead, 8 * h + p);
        __m512bh columns[2];
        decoder.Pair(columns);
        _mm512_storeu_si512(out + 64 * p, (__m512i)columns[0]);
        _mm512_storeu_si512(out + 64 * p + 32, (__m512i)columns[1]);
      }
      out += 8 * 64;
    }
    block += GroupBytes(kFormat);
  }
  if (k_pairs > 0) ExpandRest<kFormat>(block, k_pairs, out);
}

// One accumulator an element, pairs in order: as GemmAvx512.
template <int R>
inline __attribute__((always_inline)) void Multiply(
    const bf16_t* a, int64_t lda, const __m512bh (&columns)[2],
    __m512 (&c)[R][2]) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const __m512bh pair = (__m512bh)_mm512_set1_epi32(
        *reinterpret_cast<const PairBits*>(a + r * lda));
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      c[r][v] = _mm512_dpbf16_ps(c[r][v], pair, columns[v]);
    }
  }
}

template <GroupFormat kFormat, int R>
void Tile(int32_t k_pairs, const bf16_t* a, int64_t lda, const uint8_t* block,
          float* c, int64_t ldc) {
  __m512 sum[R][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    sum[r][0] = _mm512_setzero_ps();
    sum[r][1] = _mm512_setzero_ps();
  }
  Decoder<kFormat> decoder;
  for (; k_pairs >= kGroupPairs; k_pairs -= kGroupPairs) {
    decoder.Group(block);
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      decoder.Half();
#pragma GCC unroll 8
      for (int p = 0; p < 8; ++p) {
        Fetch<kFormat>(block + kAheadBytes, 8 * h + p);
        __m512bh columns[2];
        decoder.Pair(columns);
        Multiply<R>(a + 2 * p, lda, columns, sum);
      }
      a += 16;
    }
    block += GroupBytes(kFormat);
  }
  if (k_pairs > 0) decoder.Group(block);
  for (int32_t p = 0; p < k_pairs; ++p) {
    if (p % 8 == 0) decoder.Half();
    __m512bh columns[2];
    decoder.Pair(columns);
    Multiply<R>(a + 2 * p, lda, columns, sum);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    _mm512_storeu_ps(c + r * ldc, sum[r][0]);
    _mm512_storeu_ps(c + r * ldc + 16, sum[r][1]);
  }
}

template <GroupFormat kFormat>
void Gemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
          const uint8_t* block, float* c, int64_t ldc) {
  switch (m) {
    case 1:
      return Tile<kFormat, 1>(k_pairs, a, lda, block, c, ldc);
    case 2:
      return Tile<kFormat, 2>(k_pairs, a, lda, block, c, ldc);
    case 3:
      return Tile<kFormat, 3>(k_pairs, a, lda, block, c, ldc);
    case 4:
      return Tile<kFormat, 4>(k_pairs, a, lda, block, c, ldc);
    case 5:
      return Tile<kFormat, 5>(k_pairs, a, lda, block, c, ldc);
    case 6:
      return Tile<kFormat, 6>(k_pairs, a, lda, block, c, ldc);
    case 7:
      return Tile<kFormat, 7>(k_pairs, a, lda, block, c, ldc);
    default:
      return Tile<kFormat, 8>(k_pairs, a, lda, block, c, ldc);
  }
}

}  // namespace

const GroupKernels kAvx512Groups = {
    {&Expand<GroupFormat::k4>, &Expand<GroupFormat::k4Min>,
     &Expand<GroupFormat::k8>},
    kFusedRows,
    {&Gemm<GroupFormat::k4>, &Gemm<GroupFormat::k4Min>,
     &Gemm<GroupFormat::k8>}};

}  // namespace descant::kernels
