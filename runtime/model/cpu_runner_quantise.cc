// What int8 weights need beside: activations as bytes.
#include <cstddef>
#include <cstdint>

#include "runtime/kernels/int8.h"
#include "runtime/model/cpu_runner_phases.h"

namespace descant {

void CpuStep::NormQuantised(const CpuNorm& norm, int64_t from, int64_t to,
                            kernels::bf16_t* normed) {
  const kernels::NormQuantiseFn function = config_.norm == NormKind::kLayer
                                               ? kernels_.int8.layer_norm
                                               : kernels_.int8.rms_norm;
  const QuantisedRows& out = scratch_.normed_int8;
  function(scratch_.x + from * shape_.hidden_width, norm.weight, norm.bias,
           shape_.hidden, shape_.hidden_width, config_.norm_eps, normed,
           out.values + to * out.stride, out.scales + to);
}

QuantisedRows CpuStep::Quantise(const kernels::bf16_t* a, int64_t lda,
                                int32_t width, const QuantisedRows& shared) {
  if (!Int8()) return {};
  QuantisedRows out = shared;
  const auto quantise = [&](int32_t begin, int32_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernels_.int8.quantise(a + row * lda, width,
                             out.values + row * out.stride, out.scales + row);
    }
  };
  if (rows_ <= kOwnQuantisedRows) {
    out.values = mine_.quantised.values;
    out.scales = mine_.quantised.scales;
    quantise(0, rows_);
  } else {
    ForRows(rows_, quantise);
  }
  return out;
}

void CpuStep::MultiplyInt8(const Product& product, const std::byte* block,
                           const std::byte* next, int32_t begin, int32_t end,
                           float* c, int64_t ldc) {
  const QuantisedRows& a = product.quantised;
  const int64_t k = (product.weights.block_bytes - kernels::kInt8HeaderBytes) /
                    kernels::kColumnBlock;
  kernels_.int8.gemm(end - begin, static_cast<int32_t>(k),
                     a.values + begin * a.stride, a.stride, a.scales + begin,
                     block, next, c, ldc);
}

}  // namespace descant
