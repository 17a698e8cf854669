// Compiled for AVX2 and F16C. Sealed: no inline function of others in it.
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "runtime/model/bfloat16_convert.h"

namespace descant {
namespace {

constexpr int64_t kLanes = 8;

// As ToBFloat16 rounds: to nearest even, NaN quiet.
__m128i Round(__m256 values) {
  const __m256i bits = _mm256_castps_si256(values);
  const __m256i odd =
      _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x00400000));
  const __m256i nan =
      _mm256_castps_si256(_mm256_cmp_ps(values, values, _CMP_UNORD_Q));
  const __m256i wide =
      _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  const __m256i narrow = _mm256_packus_epi32(wide, wide);
  return _mm256_castsi256_si128(
      _mm256_permute4x64_epi64(narrow, _MM_SHUFFLE(3, 1, 2, 0)));
}

__m128i Convert(const float* from) { return Round(_mm256_loadu_ps(from)); }
__m128i Convert(const uint16_t* from) {
  return Round(
      _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

template <typename T>
void ConvertAll(const T* from, int64_t count, kernels::bf16_t* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), Convert(from + i));
  }
  if (i == count) return;
  T last[kLanes] = {};
  kernels::bf16_t converted[kLanes];
  std::memcpy(last, from + i, (count - i) * sizeof(T));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(converted), Convert(last));
  std::memcpy(to + i, converted, (count - i) * sizeof(kernels::bf16_t));
}

}  // namespace

void FloatToBFloat16Avx2(const float* from, int64_t count,
                         kernels::bf16_t* to) {
  ConvertAll(from, count, to);
}

void HalfToBFloat16Avx2(const uint16_t* from, int64_t count,
                        kernels::bf16_t* to) {
  ConvertAll(from, count, to);
}

}  // namespace descant
