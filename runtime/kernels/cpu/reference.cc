// The oracle of the kernels: the formulas as plain loops.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/base/float16.h"
#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

float Widen(bf16_t bits) { return ToFloat(BFloat16{bits}); }
bf16_t Round(float x) { return ToBFloat16(x).bits; }

void Gemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
          const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
          int64_t ldc, bool accumulate) {
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

void Shrink(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
            const bf16_t* b, const float* scale, bf16_t* h, int64_t ldh) {
  for (int32_t row = 0; row < m; ++row) {
    for (int32_t n = 0; n < kRankBlock; ++n) {
      float sum = 0;
      for (int32_t k = 0; k < 2 * k_pairs; ++k) {
        sum += Widen(a[row * lda + k]) *
               Widen(b[k / 2 * 2 * kRankBlock + 2 * n + k % 2]);
      }
      h[row * ldh + n] = Round(sum * scale[n]);
    }
  }
}

void RmsNorm(const float* x, const float* weight, int32_t n, int32_t padded,
             float eps, bf16_t* out) {
  float sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  for (int32_t i = 0; i < padded; ++i) out[i] = Round(x[i] * scale * weight[i]);
}

void ResidualAdd(int32_t rows, const float* c, float* x, int64_t ldx) {
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kColumnBlock; ++i) {
      x[row * ldx + i] += c[row * kColumnBlock + i];
    }
  }
}

void SiluMul(int32_t rows, const float* gate, const float* up, bf16_t* out,
             int64_t ldo) {
  for (int32_t row = 0; row < rows; ++row) {
    for (int32_t i = 0; i < kColumnBlock; ++i) {
      const float g = gate[row * kColumnBlock + i];
      const float u = up[row * kColumnBlock + i];
      out[row * ldo + i] = Round(g / (1.0f + std::exp(-g)) * u);
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
    return sum * item.scale;
  };
  float max = score(0);
  for (int32_t at = 1; at <= position; ++at) max = std::max(max, score(at));
  float total = 0;
  std::fill_n(sums, item.head_dim, 0.0f);
  for (int32_t at = 0; at <= position; ++at) {
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

}  // namespace

const CpuKernels kScalarKernels = {"scalar", &Gemm,        &Gemm,    &Shrink,
                                   &RmsNorm, &ResidualAdd, &SiluMul, &Rope,
                                   &ToBf16,  &Attention,   nullptr};

}  // namespace descant::kernels
