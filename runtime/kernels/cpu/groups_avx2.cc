// Weights in groups with AVX2: expanded to bf16 pairs, four columns (both
// elements of their pairs) a register.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/groups.h"

namespace descant::kernels {
namespace {

constexpr int32_t kGroupPairs = kGroup / 2;
constexpr int64_t kAheadBytes = 2048;

// f16 to fp32: the exponent is moved by a multiplication, which takes
// subnormals along; infinities and NaN keep their own.
inline __m256 Widen(__m128i halves) {
  const __m256i bits = _mm256_cvtepu16_epi32(halves);
  const __m256i magnitude =
      _mm256_slli_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x7fff)), 13);
  const __m256i sign =
      _mm256_slli_epi32(_mm256_and_si256(bits, _mm256_set1_epi32(0x8000)), 16);
  const __m256 finite =
      _mm256_mul_ps(_mm256_castsi256_ps(magnitude), _mm256_set1_ps(0x1p112f));
  const __m256i special =
      _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32((31 << 23) - 1));
  const __m256i infinite =
      _mm256_and_si256(special, _mm256_set1_epi32(0x7f800000));
  return _mm256_or_ps(finite,
                      _mm256_castsi256_ps(_mm256_or_si256(sign, infinite)));
}

// The scales of 32 columns, each in both lanes of its pair, four columns a
// vector. Stored: columns 0 1 8 9 2 3 10 11 ... (GroupScaleIndex).
inline void LoadScales(const uint8_t* p, __m256 (&out)[8]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    // Columns c, c + 1, c + 8, c + 9, c + 2, c + 3, c + 10, c + 11.
    const __m256 x =
        Widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i)));
    const int to = i / 2 * 4 + i % 2;
    out[to] = _mm256_unpacklo_ps(x, x);
    out[to + 2] = _mm256_unpackhi_ps(x, x);
  }
}

// Round to nearest even; NaN becomes a quiet NaN. In the low half of a lane.
inline __m256i Round(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd =
      _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd),
      16);
  const __m256i quiet =
      _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, quiet, nan);
}

template <GroupFormat kFormat>
inline __m256 Weights(const uint8_t* group, int32_t pair, int32_t quad,
                      const __m256& d, const __m256& m) {
  if (kFormat == GroupFormat::k8) {
    const __m128i bytes = _mm_loadl_epi64(
        reinterpret_cast<const __m128i*>(group + pair * 64 + quad * 8));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), d);
  }
  const __m256i words = _mm256_loadu_si256(
      reinterpret_cast<const __m256i*>(group + pair / 8 * 256 + quad * 32));
  const __m256i code =
      _mm256_and_si256(_mm256_srl_epi32(words, _mm_cvtsi32_si128(pair % 8 * 4)),
                       _mm256_set1_epi32(15));
  if (kFormat == GroupFormat::k4) {
    return _mm256_mul_ps(
        _mm256_cvtepi32_ps(_mm256_sub_epi32(code, _mm256_set1_epi32(8))), d);
  }
  return _mm256_fmadd_ps(_mm256_cvtepi32_ps(code), d, m);
}

template <GroupFormat kFormat>
void Expand(int32_t k_pairs, const uint8_t* block, const uint8_t* next,
            bf16_t* out) {
  const int64_t ahead = next != nullptr ? next - block : kAheadBytes;
  for (; k_pairs > 0; k_pairs -= kGroupPairs) {
    for (int64_t i = 0; i < GroupBytes(kFormat); i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(block) + ahead + i,
                   _MM_HINT_T0);
    }
    const uint8_t* scales = block + GroupCodeBytes(kFormat);
    __m256 d[8];
    __m256 m[8];
    LoadScales(scales, d);
    // Unused unless there are minima.
    LoadScales(kFormat == GroupFormat::k4Min ? scales + 64 : scales, m);
    const int32_t pairs = k_pairs < kGroupPairs ? k_pairs : kGroupPairs;
    for (int32_t quad = 0; quad < 8; quad += 2) {
      for (int32_t p = 0; p < pairs; ++p) {
        const __m256i low =
            Round(Weights<kFormat>(block, p, quad, d[quad], m[quad]));
        const __m256i high = Round(
            Weights<kFormat>(block, p, quad + 1, d[quad + 1], m[quad + 1]));
        // Packing takes the 128-bit halves of both in turn.
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(out + p * 64 + quad * 8),
            _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8));
      }
    }
    block += GroupBytes(kFormat);
    out += kGroupPairs * 64;
  }
}

}  // namespace

const GroupKernels kAvx2Groups = {
    {&Expand<GroupFormat::k4>, &Expand<GroupFormat::k4Min>,
     &Expand<GroupFormat::k8>},
    0,
    {nullptr, nullptr, nullptr}};

}  // namespace descant::kernels
