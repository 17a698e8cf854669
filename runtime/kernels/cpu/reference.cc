// The oracle of the kernels: the formulas as plain loops.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

float Widen(bf16_t bits) { return ToFloat(BFloat16{bits}); }
float Widen(int8_t value) { return value; }
bf16_t Round(float x) { return ToBFloat16(x).bits; }

template <typename Value>
void Multiply(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
              const Value* b, int64_t ldb, float* c, int64_t ldc,
              bool accumulate) {
  for (int32_t row = 0; row < m; ++row) {
    for (int32_t n = 0; n < kColumnBlock; ++n) {
      float sum = accumulate ? c[row * ldc + n] : 0.0f;
      for (int32_t k = 0; k < 2 * k_pairs; ++k) {
        sum += Widen(a[row * lda + k]) * Widen(b[k / 2 * ldb + 2 * n + k % 2]);
      }
      c[row * ldc + n] = sum;
    }
  }
}

void Gemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
          const bf16_t* b, int64_t ldb, const bf16_t* /*next*/, float* c,
          int64_t ldc, bool accumulate) {
  Multiply(m, k_pairs, a, lda, b, ldb, c, ldc, accumulate);
}

template <typename Value>
void Expand(const ExpandSegment* segments, int32_t count, int64_t block,
            int32_t begin, int32_t end, float* c, int64_t ldc) {
  for (int32_t i = 0; i < count; ++i) {
    const ExpandSegment& segment = segments[i];
    const int32_t first = segment.row_begin > begin ? segment.row_begin : begin;
    const int32_t last = segment.row_end < end ? segment.row_end : end;
    if (first >= last) continue;
    Multiply(last - first, segment.rank_pairs,
             segment.h + (first - segment.row_begin) * segment.h_stride,
             segment.h_stride,
             static_cast<const Value*>(segment.b) +
                 block * segment.rank_pairs * 2 * kColumnBlock,
             2 * kColumnBlock, c + (first - begin) * ldc, ldc,
             /*accumulate=*/true);
  }
}

template <typename Value>
void Shrink(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
            const void* b, const float* scale, bf16_t* h, int64_t ldh) {
  const auto* values = static_cast<const Value*>(b);
  for (int32_t row = 0; row < m; ++row) {
    for (int32_t n = 0; n < kRankBlock; ++n) {
      float sum = 0;
      for (int32_t k = 0; k < 2 * k_pairs; ++k) {
        sum += Widen(a[row * lda + k]) *
               Widen(values[k / 2 * 2 * kRankBlock + 2 * n + k % 2]);
      }
      h[row * ldh + n] = Round(sum * scale[n]);
    }
  }
}

constexpr LoraKernels kLora = {&Shrink<bf16_t>, &Expand<bf16_t>};
constexpr LoraKernels kLoraInt8 = {&Shrink<int8_t>, &Expand<int8_t>};

float RmsScale(const float* x, int32_t n, float eps) {
  float sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

void RmsNorm(const float* x, const float* weight, const float* /*bias*/,
             int32_t n, int32_t padded, float eps, bf16_t* out) {
  const float scale = RmsScale(x, n, eps);
  for (int32_t i = 0; i < padded; ++i) out[i] = Round(x[i] * scale * weight[i]);
}

void AddRmsNorm(const float* y, const float* weight, int32_t n,
                int32_t /*padded*/, float eps, float* x) {
  const float scale = RmsScale(y, n, eps);
  for (int32_t i = 0; i < n; ++i) x[i] += y[i] * scale * weight[i];
}

void HeadNorm(const float* x, const float* weight, int32_t n, float eps,
              float* out) {
  const float scale = RmsScale(x, n, eps);
  for (int32_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void LayerNormValues(const float* x, const float* weight, const float* bias,
                     int32_t n, int32_t padded, float eps, float* out) {
  double sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / n;
  double squares = 0;
  for (int32_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double scale = 1.0 / std::sqrt(squares / n + eps);
  for (int32_t i = 0; i < padded; ++i) {
    const double normed = (x[i] - mean) * scale;
    out[i] = static_cast<float>(normed * weight[i] + bias[i]);
  }
}

void LayerNorm(const float* x, const float* weight, const float* bias,
               int32_t n, int32_t padded, float eps, bf16_t* out) {
  std::vector<float> values(padded);
  LayerNormValues(x, weight, bias, n, padded, eps, values.data());
  for (int32_t i = 0; i < padded; ++i) out[i] = Round(values[i]);
}

void GemmInt8(int32_t m, int32_t k, const uint8_t* a, int64_t lda,
              const float* a_scale, const std::byte* block,
              const std::byte* /*next*/, float* c, int64_t ldc) {
  const float* scale = reinterpret_cast<const float*>(block);
  const int32_t* offset =
      reinterpret_cast<const int32_t*>(scale + kColumnBlock);
  const int8_t* b = reinterpret_cast<const int8_t*>(block + kInt8HeaderBytes);
  for (int32_t row = 0; row < m; ++row) {
    for (int32_t n = 0; n < kColumnBlock; ++n) {
      int32_t sum = 0;
      for (int32_t i = 0; i < k; ++i) {
        sum += a[row * lda + i] * b[i / 4 * 4 * kColumnBlock + 4 * n + i % 4];
      }
      c[row * ldc + n] =
          static_cast<float>(sum - offset[n]) * (a_scale[row] * scale[n]);
    }
  }
}

void QuantiseValues(const float* x, int32_t n, uint8_t* q, float* scale) {
  float max = 0;
  for (int32_t i = 0; i < n; ++i) {
    // Stays NaN once it is.
    if (!(std::fabs(x[i]) <= max) && !std::isnan(max)) max = std::fabs(x[i]);
  }
  *scale = max * (1.0f / 127.0f);
  const float inverse = max >= 1e-30f ? 127.0f / max : 0.0f;
  for (int32_t i = 0; i < n; ++i) {
    const float value = x[i] * inverse;
    q[i] = static_cast<uint8_t>(
        128 + (std::isnan(value) ? 0 : static_cast<int32_t>(std::rint(value))));
  }
}

void Quantise(const bf16_t* x, int32_t n, uint8_t* q, float* scale) {
  std::vector<float> values(n);
  for (int32_t i = 0; i < n; ++i) values[i] = Widen(x[i]);
  QuantiseValues(values.data(), n, q, scale);
}

void RmsNormQuantise(const float* x, const float* weight, const float* bias,
                     int32_t n, int32_t padded, float eps, bf16_t* out,
                     uint8_t* q, float* scale) {
  const float factor = RmsScale(x, n, eps);
  std::vector<float> values(padded);
  for (int32_t i = 0; i < padded; ++i) values[i] = x[i] * factor * weight[i];
  QuantiseValues(values.data(), padded, q, scale);
  if (out != nullptr) RmsNorm(x, weight, bias, n, padded, eps, out);
}

void LayerNormQuantise(const float* x, const float* weight, const float* bias,
                       int32_t n, int32_t padded, float eps, bf16_t* out,
                       uint8_t* q, float* scale) {
  std::vector<float> values(padded);
  LayerNormValues(x, weight, bias, n, padded, eps, values.data());
  QuantiseValues(values.data(), padded, q, scale);
  if (out != nullptr) LayerNorm(x, weight, bias, n, padded, eps, out);
}

void ResidualAdd(int32_t rows, const float* c, float* x, int64_t ldx) {
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kColumnBlock; ++i) {
      x[row * ldx + i] += c[row * kColumnBlock + i];
    }
  }
}

void BiasAdd(int32_t rows, const float* bias, float* c, int64_t ldc) {
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kColumnBlock; ++i) c[row * ldc + i] += bias[i];
  }
}

void SoftCap(int32_t rows, float cap, float* c, int64_t ldc) {
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kColumnBlock; ++i) {
      c[row * ldc + i] = cap * std::tanh(c[row * ldc + i] / cap);
    }
  }
}

float SiluOf(float x) { return x / (1.0f + std::exp(-x)); }

// In double: 1 + tanh cancels where x is far below 0.
float GeluOf(float x) {
  const double u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  return static_cast<float>(0.5 * x * (1.0 + std::tanh(u)));
}

template <float (*kFunction)(float)>
void ActivateMul(int32_t rows, const float* gate, const float* up, bf16_t* out,
                 int64_t ldo) {
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kColumnBlock; ++i) {
      const int32_t at = row * kColumnBlock + i;
      out[row * ldo + i] = Round(kFunction(gate[at]) * up[at]);
    }
  }
}

template <float (*kFunction)(float)>
void Activate(int32_t rows, const float* x, bf16_t* out, int64_t ldo) {
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kColumnBlock; ++i) {
      out[row * ldo + i] = Round(kFunction(x[row * kColumnBlock + i]));
    }
  }
}

void Rope(const float* x, const float* cos, const float* sin, int32_t half,
          bf16_t* out) {
  for (int32_t i = 0; i < half; ++i) {
    out[i] = Round(x[i] * cos[i] - x[i + half] * sin[i]);
    out[i + half] = Round(x[i + half] * cos[i] + x[i] * sin[i]);
  }
}

void ToBf16(const float* x, int32_t n, bf16_t* out) {
  for (int32_t i = 0; i < n; ++i) out[i] = Round(x[i]);
}

// One query: scores twice over, instead of a buffer of them.
void AttendRow(const AttentionItem& item, const bf16_t* q, int32_t position,
               float* sums, bf16_t* out) {
  const auto score = [&](int32_t at) {
    const bf16_t* k = item.kv + item.blocks[at / kKvBlock] * item.block_stride;
    float sum = 0;
    for (int32_t d = 0; d < item.head_dim; ++d) {
      sum += Widen(q[d]) *
             Widen(k[d / 2 * 2 * kKvBlock + at % kKvBlock * 2 + d % 2]);
    }
    sum *= item.scale;
    const float cap = item.score_cap;
    return cap == 0 ? sum : cap * std::tanh(sum / cap);
  };
  const int32_t first =
      item.window > 0 ? std::max(position - item.window + 1, 0) : 0;
  float max = score(first);
  for (int32_t at = first + 1; at <= position; ++at) {
    max = std::max(max, score(at));
  }
  float total = 0;
  std::fill_n(sums, item.head_dim, 0.0f);
  for (int32_t at = first; at <= position; ++at) {
    const bf16_t* v = item.kv + item.blocks[at / kKvBlock] * item.block_stride +
                      item.v_offset;
    const int32_t token = at % kKvBlock;
    const float p = std::exp(score(at) - max);
    total += p;
    for (int32_t d = 0; d < item.head_dim; ++d) {
      sums[d] += Widen(Round(p)) *
                 Widen(v[(token / 2 * item.padded_dim + d) * 2 + token % 2]);
    }
  }
  for (int32_t d = 0; d < item.head_dim; ++d) out[d] = Round(sums[d] / total);
}

void Attention(const AttentionItem& item, void* workspace) {
  for (int32_t t = 0; t < item.tokens; ++t) {
    for (int32_t g = 0; g < item.group; ++g) {
      AttendRow(item, item.q + t * item.q_stride + g * item.head_dim,
                item.first_position + t, static_cast<float*>(workspace),
                item.out + t * item.out_stride + g * item.head_dim);
    }
  }
}

constexpr Int8Kernels kInt8 = {&GemmInt8, &Quantise, &RmsNormQuantise,
                               &LayerNormQuantise};

}  // namespace

const CpuKernels kScalarKernels = {.name = "scalar",
                                   .gemm = &Gemm,
                                   .lora = &kLora,
                                   .lora_int8 = &kLoraInt8,
                                   .groups = &kScalarGroups,
                                   .rms_norm = &RmsNorm,
                                   .layer_norm = &LayerNorm,
                                   .add_rms_norm = &AddRmsNorm,
                                   .head_norm = &HeadNorm,
                                   .residual_add = &ResidualAdd,
                                   .bias_add = &BiasAdd,
                                   .soft_cap = &SoftCap,
                                   .silu_mul = &ActivateMul<&SiluOf>,
                                   .gelu_mul = &ActivateMul<&GeluOf>,
                                   .silu = &Activate<&SiluOf>,
                                   .gelu = &Activate<&GeluOf>,
                                   .rope = &Rope,
                                   .to_bf16 = &ToBf16,
                                   .attention = &Attention,
                                   .attention_part = nullptr,
                                   .attention_merge = nullptr,
                                   .int8 = kInt8,
                                   .end_region = nullptr};

}  // namespace descant::kernels
