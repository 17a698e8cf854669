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

constexpr int32_t kTileRows = kAvx512TileRows;
constexpr int32_t kShrinkRows = 6;
// How far ahead a stream of weights is fetched, in elements: 12 KiB, about
// what arrives within the latency of memory at full bandwidth.
constexpr int64_t kNear = 6144;
// The same of LoRA's A, whose blocks are small.
constexpr int64_t kShrinkNear = 2048;
// A next block of up to this many elements is fetched whole instead.
constexpr int64_t kSmallBlock = 4096;

inline __m512bh LoadPairs(const bf16_t* p) {
  return (__m512bh)_mm512_loadu_si512(p);
}

// bf16 has all values of int8.
inline __m512bh LoadPairs(const int8_t* p) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  const __m512 low =
      _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(bytes)));
  const __m512 high = _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm256_extracti128_si256(bytes, 1)));
  return _mm512_cvtne2ps_pbh(high, low);
}

inline __m512bh SplatPair(const bf16_t* p) {
  return (__m512bh)_mm512_set1_epi32(*reinterpret_cast<const PairBits*>(p));
}

// One pair of K: `a` points at it in row 0. Rows are reached from every third
// row, so that they take few address registers.
template <int R, typename Value>
inline __attribute__((always_inline)) void Step(const bf16_t* const* a,
                                                int64_t lda, int32_t offset,
                                                const Value* b,
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

// What is fetched while a tile is multiplied: Four() before each four pairs of
// K, Pair(u) before each of them. Nothing:
struct FetchNothing {
  void Four(int32_t) {}
  void Pair(int, int64_t) {}
  void End() {}
};

// A stream of weights, `kPairs` pairs of K out of every four, laid out as the
// block: from `at`, and from pair `left` on from `then`.
template <int kPairs>
struct FetchWeights {
  const bf16_t* at;
  int32_t left = INT32_MAX;
  const bf16_t* then = nullptr;

  inline __attribute__((always_inline)) void Four(int32_t k) {
    if (kPairs < 4 || k < left) return;
    at = then;
    left = INT32_MAX;
  }
  inline __attribute__((always_inline)) void Pair(int u, int64_t ldb) {
    if (u >= kPairs) return;
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      // All four: they are soon to be read.
      _mm_prefetch(at + 32 * v, kPairs == 4 ? _MM_HINT_T0 : _MM_HINT_T1);
    }
    at += ldb;
  }
  void End() {}
};

// The same, and ranges of a stream in the places of the other pairs.
template <int kPairs>
struct FetchBoth {
  FetchWeights<kPairs> weights;
  FetchStream* stream;
  // Bytes for a pair of K.
  static constexpr int64_t kFetched = 128;

  const std::byte* at = stream->at;
  int64_t left = stream->left;
  int64_t step = kFetched;

  inline __attribute__((always_inline)) void Four(int32_t k) {
    weights.Four(k);
    if (left <= 0) Take();
    left -= (4 - kPairs) * step;
  }
  inline __attribute__((always_inline)) void Take() {
    FetchRanges* ranges =
        stream->soon.next != stream->soon.end ? &stream->soon : &stream->later;
    if (ranges->next == ranges->end) {
      at -= step;  // the last line again and again
      step = 0;
      return;
    }
    at = ranges->next->at;
    left = ranges->next->bytes;
    ++ranges->next;
  }
  inline __attribute__((always_inline)) void Pair(int u, int64_t ldb) {
    if (u < kPairs) {
      weights.Pair(u, ldb);
      return;
    }
    _mm_prefetch(at, _MM_HINT_T1);
    _mm_prefetch(at + kFetched / 2, _MM_HINT_T1);
    at += step;
  }
  void End() {
    stream->at = at;
    stream->left = left;
  }
};

template <int R, typename Value, typename Fetch>
inline __attribute__((always_inline)) void Accumulate(
    int32_t k_pairs, const bf16_t* a, int64_t lda, const Value* b, int64_t ldb,
    Fetch& fetch, __m512 (&c)[R][2]) {
  const bf16_t* rows[(R + 2) / 3];
#pragma GCC unroll 4
  for (int i = 0; i < (R + 2) / 3; ++i) rows[i] = a + 3 * i * lda;
  int32_t k = 0;
  for (; k + 4 <= k_pairs; k += 4) {
    fetch.Four(k);
#pragma GCC unroll 4
    for (int u = 0; u < 4; ++u) {
      fetch.Pair(u, ldb);
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

template <int R, typename Value, typename Fetch>
void Tile(int32_t k_pairs, const bf16_t* a, int64_t lda, const Value* b,
          int64_t ldb, Fetch fetch, float* c, int64_t ldc, bool accumulate) {
  __m512 sum[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    sum[r][0] = accumulate ? _mm512_loadu_ps(c + r * ldc) : _mm512_setzero_ps();
    sum[r][1] =
        accumulate ? _mm512_loadu_ps(c + r * ldc + 16) : _mm512_setzero_ps();
  }
  Accumulate<R>(k_pairs, a, lda, b, ldb, fetch, sum);
  fetch.End();
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    _mm512_storeu_ps(c + r * ldc, sum[r][0]);
    _mm512_storeu_ps(c + r * ldc + 16, sum[r][1]);
  }
}

// Four accumulators an element, for every fourth pair of K each: a row alone
// would otherwise wait for one multiplication after the other.
template <int R, typename Value>
void ShrinkTile(int32_t k_pairs, const bf16_t* a, int64_t lda, const Value* b,
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
      _mm_prefetch(b + kShrinkNear + 32 * u, _MM_HINT_T0);
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

template <typename Value, typename Fetch>
using TileFn = void (*)(int32_t, const bf16_t*, int64_t, const Value*, int64_t,
                        Fetch, float*, int64_t, bool);
template <typename Value>
using ShrinkTileFn = void (*)(int32_t, const bf16_t*, int64_t, const Value*,
                              const float*, bf16_t*, int64_t);

// For 1 to 12 rows.
template <typename Fetch, typename Value = bf16_t>
constexpr TileFn<Value, Fetch> kTiles[] = {
    &Tile<1, Value, Fetch>,  &Tile<2, Value, Fetch>,  &Tile<3, Value, Fetch>,
    &Tile<4, Value, Fetch>,  &Tile<5, Value, Fetch>,  &Tile<6, Value, Fetch>,
    &Tile<7, Value, Fetch>,  &Tile<8, Value, Fetch>,  &Tile<9, Value, Fetch>,
    &Tile<10, Value, Fetch>, &Tile<11, Value, Fetch>, &Tile<12, Value, Fetch>};
template <typename Value>
constexpr ShrinkTileFn<Value> kShrinkTiles[] = {
    &ShrinkTile<1, Value>, &ShrinkTile<2, Value>, &ShrinkTile<3, Value>,
    &ShrinkTile<4, Value>, &ShrinkTile<5, Value>, &ShrinkTile<6, Value>};

// A product of one block: what Gemm is asked for.
struct Block {
  int32_t k_pairs;
  const bf16_t* b;
  int64_t ldb;
  int64_t lda;
  int64_t ldc;
  bool accumulate;

  template <typename Fetch>
  void Rows(int32_t rows, const bf16_t* a, float* c, const Fetch& fetch) const {
    kTiles<Fetch>[rows - 1](k_pairs, a, lda, b, ldb, fetch, c, ldc, accumulate);
  }
};

// One tile streams B, so it fetches just ahead of itself.
inline void OneTile(const Block& block, int32_t m, const bf16_t* a,
                    const bf16_t* next, float* c) {
  FetchWeights<4> fetch = {block.b + kNear};
  if (block.k_pairs * block.ldb <= kSmallBlock) {
    if (next == nullptr) {
      block.Rows(m, a, c, FetchNothing{});
      return;
    }
    fetch.at = next;
  } else if (next != nullptr) {
    const int64_t near_pairs = kNear / block.ldb;
    fetch.left = block.k_pairs > near_pairs
                     ? static_cast<int32_t>(block.k_pairs - near_pairs)
                     : 0;
    fetch.then = next;
  }
  block.Rows(m, a, c, fetch);
}

// Several tiles read B from the second-level cache after the first: meanwhile
// memory would be idle, so they share the fetching of the next block, `kEach`
// pairs of K out of four each.
template <int kEach>
inline void ManyTiles(const Block& block, int32_t m, const bf16_t* a,
                      const bf16_t* next, float* c, FetchStream* beside) {
  int32_t tiles = (m + kTileRows - 1) / kTileRows;
  const int64_t share = block.k_pairs / 4 * kEach;
  for (int64_t fetched = 0; tiles > 0; --tiles, fetched += share) {
    // Tiles of nearly equal height.
    const int32_t rows = (m + tiles - 1) / tiles;
    const bool fetch = next != nullptr && fetched < block.k_pairs;
    const FetchWeights<kEach> weights = {fetch ? next + fetched * block.ldb
                                               : nullptr};
    if (beside != nullptr && !beside->empty()) {
      if (fetch) {
        block.Rows(rows, a, c, FetchBoth<kEach>{weights, beside});
      } else {
        block.Rows(rows, a, c, FetchBoth<0>{{nullptr}, beside});
      }
    } else if (fetch) {
      block.Rows(rows, a, c, weights);
    } else {
      block.Rows(rows, a, c, FetchNothing{});
    }
    a += rows * block.lda;
    c += rows * block.ldc;
    m -= rows;
  }
}

inline void Gemm(int32_t m, const Block& block, const bf16_t* a,
                 const bf16_t* next, float* c, FetchStream* beside) {
  if (m <= kTileRows) {
    OneTile(block, m, a, next, c);
  } else if (m <= 3 * kTileRows) {
    ManyTiles<2>(block, m, a, next, c, beside);
  } else {
    ManyTiles<1>(block, m, a, next, c, beside);
  }
}

// C[m, 32] += A B, B in the second-level cache.
inline void AddProduct(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                       const bf16_t* b, float* c, int64_t ldc) {
  Gemm(m, {k_pairs, b, 2 * kColumnBlock, lda, ldc, /*accumulate=*/true}, a,
       nullptr, c, nullptr);
}

inline void AddProduct(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                       const int8_t* b, float* c, int64_t ldc) {
  int32_t tiles = (m + kTileRows - 1) / kTileRows;
  for (; tiles > 0; --tiles) {
    const int32_t rows = (m + tiles - 1) / tiles;
    kTiles<FetchNothing, int8_t>[rows - 1](k_pairs, a, lda, b, 2 * kColumnBlock,
                                           {}, c, ldc,
                                           /*accumulate=*/true);
    a += rows * lda;
    c += rows * ldc;
    m -= rows;
  }
}

// The few pairs of a segment of one row take no call: those of many segments
// overlap. The bits are those of AddProduct.
template <typename Value>
void Expand(const ExpandSegment* segments, int32_t count, int64_t block,
            int32_t begin, int32_t end, float* c, int64_t ldc) {
  for (int32_t i = 0; i < count; ++i) {
    const ExpandSegment& segment = segments[i];
    const int32_t first = segment.row_begin > begin ? segment.row_begin : begin;
    const int32_t last = segment.row_end < end ? segment.row_end : end;
    if (first >= last) continue;
    const int32_t pairs = segment.rank_pairs;
    const bf16_t* h =
        segment.h + int64_t{first - segment.row_begin} * segment.h_stride;
    const Value* b =
        static_cast<const Value*>(segment.b) + block * pairs * 2 * kColumnBlock;
    float* out = c + (first - begin) * ldc;
    if (last - first > 1) {
      AddProduct(last - first, pairs, h, segment.h_stride, b, out, ldc);
      continue;
    }
    __m512 left = _mm512_loadu_ps(out);
    __m512 right = _mm512_loadu_ps(out + 16);
    for (int32_t k = 0; k < pairs; ++k) {
      const __m512bh pair = SplatPair(h + 2 * k);
      left = _mm512_dpbf16_ps(left, pair, LoadPairs(b + 64 * k));
      right = _mm512_dpbf16_ps(right, pair, LoadPairs(b + 64 * k + 32));
    }
    _mm512_storeu_ps(out, left);
    _mm512_storeu_ps(out + 16, right);
  }
}

template <typename Value>
void Shrink(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
            const void* b, const float* scale, bf16_t* h, int64_t ldh) {
  int32_t tiles = (m + kShrinkRows - 1) / kShrinkRows;
  for (; tiles > 0; --tiles) {
    const int32_t rows = (m + tiles - 1) / tiles;
    kShrinkTiles<Value>[rows - 1](k_pairs, a, lda, static_cast<const Value*>(b),
                                  scale, h, ldh);
    a += rows * lda;
    h += rows * ldh;
    m -= rows;
  }
}

}  // namespace

void GemmAvx512(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
                int64_t ldc, bool accumulate) {
  Gemm(m, {k_pairs, b, ldb, lda, ldc, accumulate}, a, next, c, nullptr);
}

void GemmBesideAvx512(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                      const bf16_t* b, int64_t ldb, const bf16_t* next,
                      float* c, int64_t ldc, FetchStream* beside) {
  Gemm(m, {k_pairs, b, ldb, lda, ldc, /*accumulate=*/false}, a, next, c,
       beside);
}

const LoraKernels kAvx512Lora = {&Shrink<bf16_t>, &Expand<bf16_t>};
const LoraKernels kAvx512LoraInt8 = {&Shrink<int8_t>, &Expand<int8_t>};

}  // namespace descant::kernels
