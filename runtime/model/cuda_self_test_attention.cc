// Rotation and attention against plain loops.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/model/cuda_self_test_arrays.h"

namespace descant {
namespace {

using kernels::CudaKernels;
using kernels::kAttentionSplit;
using kernels::kCudaKvBlock;
using kernels::kCudaNoPlace;
using kernels::kCudaNoSequence;

// Where a head of a position lies in a layer's keys or values.
int64_t PlaceOf(int32_t place, int32_t kv_heads, int32_t head,
                int32_t head_dim) {
  return (int64_t{place / kCudaKvBlock * kv_heads + head} * kCudaKvBlock +
          place % kCudaKvBlock) *
         head_dim;
}

// Without weights nothing is normed.
std::vector<double> NormedAndRotated(const std::vector<double>& head,
                                     const float* weights, float eps,
                                     const float* cos, const float* sin,
                                     int32_t half) {
  std::vector<double> x = head;
  double squares = 0;
  for (const double value : x) {
    squares += value * value / static_cast<double>(x.size());
  }
  for (size_t i = 0; i < x.size() && weights != nullptr; ++i) {
    x[i] *= weights[i] / std::sqrt(squares + eps);
  }
  for (int32_t i = 0; i < half; ++i) {
    const double low = x[i], high = x[i + half];
    x[i] = low * cos[i] - high * sin[i];
    x[i + half] = high * cos[i] + low * sin[i];
  }
  return x;
}

struct Sequences {
  // Of each row; the first two are of one sequence.
  std::vector<int32_t> positions;
  std::vector<int32_t> sequences;
  std::vector<int32_t> tables;  // [sequences][stride]
  int32_t stride = 0;
  int32_t pages = 0;
};

// Pages in descending order: one sequence needs three splits, and one a page.
Sequences MakeSequences() {
  Sequences made;
  constexpr int32_t kLong = 2 * kAttentionSplit + 45;
  made.positions = {kLong - 1, 17, 30, 0};
  made.sequences = {0, 0, 1, kCudaNoSequence};
  made.stride = (kLong + kCudaKvBlock - 1) / kCudaKvBlock;
  made.pages = made.stride + 1;
  for (int32_t i = 0; i < 2 * made.stride; ++i) {
    made.tables.push_back(i < made.stride ? made.stride - i : 0);
  }
  return made;
}

constexpr int32_t kHeads = 4, kKvHeads = 2, kHeadDim = 80;

// One head of one row.
std::vector<double> Attended(const Sequences& sequences, int32_t row,
                             int32_t head, int32_t window, float scale,
                             float cap, const std::vector<float>& q,
                             const std::vector<float>& keys,
                             const std::vector<float>& values) {
  std::vector<double> sum(kHeadDim);
  if (sequences.sequences[row] == kCudaNoSequence) return sum;
  const int32_t last = sequences.positions[row];
  double divisor = 0;
  for (int32_t p = window > 0 ? std::max(last - window + 1, 0) : 0; p <= last;
       ++p) {
    const int32_t page =
        sequences.tables[sequences.sequences[row] * sequences.stride +
                         p / kCudaKvBlock];
    const int64_t at = PlaceOf(page * kCudaKvBlock + p % kCudaKvBlock, kKvHeads,
                               head * kKvHeads / kHeads, kHeadDim);
    double score = 0;
    for (int32_t i = 0; i < kHeadDim; ++i) {
      score += double{q[(row * kHeads + head) * kHeadDim + i]} * keys[at + i];
    }
    score *= scale;
    if (cap > 0) score = cap * std::tanh(score / cap);
    const double weight = std::exp(score);
    divisor += weight;
    for (int32_t i = 0; i < kHeadDim; ++i) sum[i] += weight * values[at + i];
  }
  for (double& value : sum) value /= divisor;
  return sum;
}

std::vector<double> HeadAt(const std::vector<uint16_t>& halves, int32_t head,
                           const CudaTestArrays& arrays) {
  std::vector<double> x;
  for (int32_t i = 0; i < kHeadDim; ++i) {
    x.push_back(arrays.Float(halves[head * kHeadDim + i]));
  }
  return x;
}

}  // namespace

void CheckRope(const CudaKernels& kernels, CudaTestArrays* arrays,
               LargestDifference* difference) {
  constexpr int32_t kHalf = 24, kPositions = 9, kBlocks = 2;
  constexpr int32_t kWidth = (kHeads + 2 * kKvHeads) * kHeadDim;
  constexpr float kEps = 1e-6f;
  const std::vector<int32_t> positions = {0, 8, 3};
  const std::vector<int32_t> places = {kBlocks * kCudaKvBlock - 1, kCudaNoPlace,
                                       5};
  const auto rows = static_cast<int32_t>(positions.size());
  SelfTestValues values(8);
  const auto before = arrays->Halves(rows * kWidth, &values);
  const auto cos = values.Floats(kPositions * kHalf);
  const auto sin = values.Floats(kPositions * kHalf);
  const auto q_norm = values.Floats(kHeadDim);
  auto* const qkv = arrays->Upload(before);
  constexpr int32_t kCache = kBlocks * kKvHeads * kCudaKvBlock * kHeadDim;
  auto* const keys = arrays->Zeros<uint16_t>(kCache);
  auto* const v = arrays->Zeros<uint16_t>(kCache);
  arrays->Launch(kernels.rope, {.qkv = qkv,
                                .qkv_stride = kWidth,
                                .rows = rows,
                                .heads = kHeads,
                                .kv_heads = kKvHeads,
                                .head_dim = kHeadDim,
                                .positions = arrays->Upload(positions),
                                .places = arrays->Upload(places),
                                .cos = arrays->Upload(cos),
                                .sin = arrays->Upload(sin),
                                .rotary_half = kHalf,
                                .q_norm = arrays->Upload(q_norm),
                                .k_norm = nullptr,
                                .eps = kEps,
                                .kv = {keys, v},
                                .stream = arrays->stream()});
  const auto got = arrays->Download(qkv, before.size());
  const auto got_keys = arrays->Download(keys, kCache);
  const auto got_values = arrays->Download(v, kCache);
  for (int32_t at = 0; at < rows * (kHeads + 2 * kKvHeads); ++at) {
    const int32_t row = at / (kHeads + 2 * kKvHeads);
    const int32_t head = at % (kHeads + 2 * kKvHeads);
    const bool is_q = head < kHeads, is_v = head >= kHeads + kKvHeads;
    if (!is_q && places[row] == kCudaNoPlace) continue;
    std::vector<double> x = HeadAt(before, at, *arrays);
    if (!is_v) {
      x = NormedAndRotated(x, is_q ? q_norm.data() : nullptr, kEps,
                           &cos[positions[row] * kHalf],
                           &sin[positions[row] * kHalf], kHalf);
    }
    const uint16_t* const result =
        is_q
            ? &got[at * kHeadDim]
            : &(is_v ? got_values : got_keys)[PlaceOf(
                  places[row], kKvHeads, (head - kHeads) % kKvHeads, kHeadDim)];
    for (int32_t i = 0; i < kHeadDim; ++i) {
      difference->Add(x[i], arrays->Float(result[i]));
    }
  }
}

void CheckAttention(const CudaKernels& kernels, CudaTestArrays* arrays,
                    LargestDifference* difference) {
  constexpr float kScale = 0.3f;
  const Sequences sequences = MakeSequences();
  const auto rows = static_cast<int32_t>(sequences.positions.size());
  constexpr int32_t kWidth = kHeads * kHeadDim;
  SelfTestValues random(9);
  const auto floats = [&](const std::vector<uint16_t>& halves) {
    std::vector<float> values;
    for (const uint16_t half : halves) values.push_back(arrays->Float(half));
    return values;
  };
  const auto q = arrays->Halves(random.Floats(rows * kWidth, 2));
  const int32_t cache = sequences.pages * kKvHeads * kCudaKvBlock * kHeadDim;
  const auto keys = arrays->Halves(cache, &random);
  const auto values = arrays->Halves(cache, &random);
  const auto of_q = floats(q), of_keys = floats(keys),
             of_values = floats(values);
  for (const int32_t window : {0, kAttentionSplit + 20}) {
    constexpr int32_t kSplits = 3;
    const float cap = window > 0 ? 2.0f : 0;
    auto* const out = arrays->Zeros<uint16_t>(rows * kWidth);
    arrays->Launch(kernels.attention,
                   {.q = arrays->Upload(q),
                    .q_stride = kWidth,
                    .rows = rows,
                    .heads = kHeads,
                    .kv_heads = kKvHeads,
                    .head_dim = kHeadDim,
                    .positions = arrays->Upload(sequences.positions),
                    .sequences = arrays->Upload(sequences.sequences),
                    .block_tables = arrays->Upload(sequences.tables),
                    .table_stride = sequences.stride,
                    .window = window,
                    .scale = kScale,
                    .cap = cap,
                    .kv = {arrays->Upload(keys), arrays->Upload(values)},
                    .max_splits = kSplits,
                    .partials = arrays->Zeros<float>(rows * kHeads * kSplits *
                                                     (kHeadDim + 2)),
                    .out = out,
                    .out_stride = kWidth,
                    .stream = arrays->stream()});
    const auto got = arrays->Download(out, rows * kWidth);
    for (int32_t at = 0; at < rows * kHeads; ++at) {
      const auto wanted = Attended(sequences, at / kHeads, at % kHeads, window,
                                   kScale, cap, of_q, of_keys, of_values);
      for (int32_t i = 0; i < kHeadDim; ++i) {
        // Averages are smaller than what they are averages of.
        difference->Add(wanted[i], arrays->Float(got[at * kHeadDim + i]),
                        std::max(0.25, std::abs(wanted[i])));
      }
    }
  }
}

}  // namespace descant
