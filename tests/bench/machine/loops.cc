#include "tests/bench/machine/loops.h"

#include <immintrin.h>

namespace descant::bench {
namespace {

// All loops over the chains are unrolled, or the sums would be in memory.

// More chains than latency times throughput of any core here, and few enough
// for the registers.
constexpr int kChains512 = 24;
constexpr int kChains256 = 12;

__attribute__((target("avx2,fma"))) uint64_t Fp32Avx2(int64_t rounds) {
  __m256 sums[kChains256];
#pragma GCC unroll 12
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  const __m256 a = _mm256_set1_ps(1e-9f), b = _mm256_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& sum : sums) {
      sum = _mm256_fmadd_ps(a, b, sum);
      // Keeps the compiler from folding the chain.
      asm volatile("" : "+x"(sum));
    }
  }
  __m256 all = _mm256_setzero_ps();
#pragma GCC unroll 12
  for (const auto& sum : sums) all = _mm256_add_ps(all, sum);
  return static_cast<uint64_t>(_mm256_cvtss_f32(all));
}

__attribute__((target("avx512f"))) uint64_t Fp32Avx512(int64_t rounds) {
  __m512 sums[kChains512];
#pragma GCC unroll 24
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  const __m512 a = _mm512_set1_ps(1e-9f), b = _mm512_set1_ps(0.5f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (auto& sum : sums) {
      sum = _mm512_fmadd_ps(a, b, sum);
      asm volatile("" : "+v"(sum));
    }
  }
  __m512 all = _mm512_setzero_ps();
#pragma GCC unroll 24
  for (const auto& sum : sums) all = _mm512_add_ps(all, sum);
  return static_cast<uint64_t>(_mm512_cvtss_f32(all));
}

__attribute__((target("avx512f,avx512bf16"))) uint64_t Bf16Avx512(
    int64_t rounds) {
  __m512 sums[kChains512];
#pragma GCC unroll 24
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  const __m512bh a = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3c00));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (auto& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, a, a);
      asm volatile("" : "+v"(sum));
    }
  }
  __m512 all = _mm512_setzero_ps();
#pragma GCC unroll 24
  for (const auto& sum : sums) all = _mm512_add_ps(all, sum);
  return static_cast<uint64_t>(_mm512_cvtss_f32(all));
}

__attribute__((target("avx512f,avx512vnni"))) uint64_t Int8Avx512(
    int64_t rounds) {
  __m512i sums[kChains512];
#pragma GCC unroll 24
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  const __m512i a = _mm512_set1_epi8(1);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (auto& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, a, a);
      asm volatile("" : "+v"(sum));
    }
  }
  __m512i all = _mm512_setzero_si512();
#pragma GCC unroll 24
  for (const auto& sum : sums) all = _mm512_add_epi32(all, sum);
  return static_cast<uint64_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(all)));
}

// Eight tiles of 16 rows of 64 bytes: four of sums, two and two of factors.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

__attribute__((target("amx-tile,amx-bf16"))) uint64_t Bf16Amx(int64_t rounds) {
  const TileConfig config;
  asm volatile("" : : "m"(config));
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return 0;
}

__attribute__((target("amx-tile,amx-int8"))) uint64_t Int8Amx(int64_t rounds) {
  const TileConfig config;
  asm volatile("" : : "m"(config));
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
  return 0;
}

}  // namespace

const PeakLoop kFp32Avx2 = {&Fp32Avx2, kChains256 * 8 * 2};
const PeakLoop kFp32Avx512 = {&Fp32Avx512, kChains512 * 16 * 2};
const PeakLoop kBf16Avx512 = {&Bf16Avx512, kChains512 * 32 * 2};
const PeakLoop kInt8Avx512 = {&Int8Avx512, kChains512 * 64 * 2};
const PeakLoop kBf16Amx = {&Bf16Amx, 4.0 * 16 * 16 * 32 * 2};
const PeakLoop kInt8Amx = {&Int8Amx, 4.0 * 16 * 16 * 64 * 2};

uint64_t ReadScalar(const void* data, int64_t bytes, int streams,
                    int64_t ahead) {
  const auto* at = static_cast<const uint64_t*>(data);
  const int64_t words = bytes / 8 / streams;
  uint64_t sum = 0;
  for (int64_t i = 0; i < words; i += 8) {
    for (int s = 0; s < streams; ++s) {
      const uint64_t* line = at + s * words + i;
      if (ahead > 0) __builtin_prefetch(line + ahead / 8);
      sum ^= line[0] ^ line[1] ^ line[2] ^ line[3] ^ line[4] ^ line[5] ^
             line[6] ^ line[7];
    }
  }
  return sum;
}

__attribute__((target("avx2"))) uint64_t ReadAvx2(const void* data,
                                                  int64_t bytes, int streams,
                                                  int64_t ahead) {
  const auto* at = static_cast<const __m256i*>(data);
  const int64_t words = bytes / 32 / streams;
  __m256i sums[4] = {};
  for (int64_t i = 0; i < words; i += 4) {
    for (int s = 0; s < streams; ++s) {
      const __m256i* line = at + s * words + i;
      if (ahead > 0) {
        __builtin_prefetch(line + ahead / 32);
        __builtin_prefetch(line + ahead / 32 + 2);
      }
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        sums[k] = _mm256_xor_si256(sums[k], _mm256_load_si256(line + k));
      }
    }
  }
  const __m256i all = _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]),
                                       _mm256_xor_si256(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm256_extract_epi64(all, 0));
}

__attribute__((target("avx512f"))) uint64_t ReadAvx512(const void* data,
                                                       int64_t bytes,
                                                       int streams,
                                                       int64_t ahead) {
  const auto* at = static_cast<const __m512i*>(data);
  const int64_t words = bytes / 64 / streams;
  __m512i sums[4] = {};
  for (int64_t i = 0; i < words; i += 4) {
    for (int s = 0; s < streams; ++s) {
      const __m512i* line = at + s * words + i;
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        if (ahead > 0) __builtin_prefetch(line + ahead / 64 + k);
        sums[k] = _mm512_xor_si512(sums[k], _mm512_load_si512(line + k));
      }
    }
  }
  const __m512i all = _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]),
                                       _mm512_xor_si512(sums[2], sums[3]));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(_mm512_castsi512_si128(all)));
}

}  // namespace descant::bench
