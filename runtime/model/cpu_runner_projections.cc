// Linear modules.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "runtime/base/check.h"
#include "runtime/kernels/packing.h"
#include "runtime/model/cpu_runner_phases.h"

namespace descant {

using kernels::bf16_t;
using kernels::kColumnBlock;

void CpuStep::Multiply(const Product& product, int64_t block, int32_t begin,
                       int32_t end, float* c, int64_t ldc) {
  const CpuLinear& weights = product.weights;
  const std::byte* b = weights.blocks + block * weights.block_bytes;
  const std::byte* next = nullptr;
  if (last_chunk_) next = last_block_ ? product.after : b + weights.block_bytes;
  switch (weights.type) {
    case WeightType::kBf16:
      if (!beside_.empty()) {
        kernels_.gemm_beside(
            end - begin, product.k_pairs, product.a + begin * product.lda,
            product.lda, reinterpret_cast<const bf16_t*>(b), 2 * kColumnBlock,
            reinterpret_cast<const bf16_t*>(next), c, ldc, &beside_);
        break;
      }
      kernels_.gemm(end - begin, product.k_pairs,
                    product.a + begin * product.lda, product.lda,
                    reinterpret_cast<const bf16_t*>(b), 2 * kColumnBlock,
                    reinterpret_cast<const bf16_t*>(next), c, ldc,
                    /*accumulate=*/false);
      break;
    case WeightType::kInt8:
      MultiplyInt8(product, b, next, begin, end, c, ldc);
      break;
    case WeightType::kInt4:
      MultiplyGroups(product, block, begin, end, c, ldc);
      break;
  }
  if (weights.bias != nullptr) {
    kernels_.bias_add(end - begin, weights.bias + block * kColumnBlock, c, ldc);
  }
}

// A few rows are multiplied as the weights are read. More of them share the
// block in bf16, and so do the chunks of rows that follow; gate and up take
// turns.
void CpuStep::MultiplyGroups(const Product& product, int64_t block,
                             int32_t begin, int32_t end, float* c,
                             int64_t ldc) {
  const CpuLinear& weights = product.weights;
  const std::byte* b = weights.blocks + block * weights.block_bytes;
  const auto* groups = reinterpret_cast<const uint8_t*>(b);
  const int32_t format = static_cast<int32_t>(weights.format->group);
  const kernels::GroupKernels& kernels = *kernels_.groups;
  const bf16_t* a = product.a + begin * product.lda;
  if (end - begin <= kernels.fused_rows) {
    kernels.gemm[format](end - begin, product.k_pairs, a, product.lda, groups,
                         c, ldc);
    return;
  }
  bf16_t* expanded = mine_.expanded[block % 2];
  if (expanded_[block % 2] != b) {
    expanded_[block % 2] = b;
    kernels.expand[format](product.k_pairs, groups,
                           groups + weights.block_bytes, expanded);
  }
  kernels_.gemm(end - begin, product.k_pairs, a, product.lda, expanded,
                2 * kColumnBlock, nullptr, c, ldc, /*accumulate=*/false);
}

const std::byte* CpuStep::FirstBlock(const CpuLinear& weights, int32_t items,
                                     int32_t each) const {
  return weights.blocks +
         int64_t{FirstOf(items, worker_)} * each * weights.block_bytes;
}

void CpuStep::ProjectQkv(int32_t layer) {
  const CpuLayerWeights& weights = LayerWeights(layer);
  const Product product = {
      scratch_.normed,
      shape_.hidden_stride,
      shape_.hidden_pairs,
      weights.qkv,
      scratch_.normed_int8,
      FirstBlock(weights.out, shape_.hidden_width / kColumnBlock, 1)};
  BeginSite(layer, LoraSite::kQkv);
  FetchKv(layer);
  ForBlocks(shape_.qkv_width / kColumnBlock, rows_,
            [&](int32_t block, int32_t begin, int32_t end) {
              float* c = scratch_.qkv + int64_t{begin} * shape_.qkv_width +
                         block * kColumnBlock;
              FetchSoon(layer, LoraSite::kQkv, block + 1);
              Multiply(product, block, begin, end, c, shape_.qkv_width);
              const int32_t slice = QkvSlice(block);
              Expand(slice, block - QkvFirst(slice), begin, end, c,
                     shape_.qkv_width);
            });
}

void CpuStep::AddProjection(int32_t layer, LoraSite site,
                            const Product& product, const float* post_norm) {
  const int64_t width = shape_.hidden_width;
  float* tile = mine_.tiles[0];
  const bool by_rows = ByRows(site);
  BeginSite(layer, site);
  ForBlocks(shape_.hidden_width / kColumnBlock, rows_,
            [&](int32_t block, int32_t begin, int32_t end) {
              const int64_t at = begin * width + block * kColumnBlock;
              FetchSoon(layer, site, block + 1);
              if (by_rows) {
                float* c = scratch_.sums + begin * scratch_.sums_stride +
                           block * kColumnBlock;
                Multiply(product, block, begin, end, c, scratch_.sums_stride);
                return;
              }
              if (post_norm != nullptr) {
                float* c = scratch_.projected + at;
                Multiply(product, block, begin, end, c, width);
                Expand(0, block, begin, end, c, width);
                return;
              }
              Multiply(product, block, begin, end, tile, kColumnBlock);
              Expand(0, block, begin, end, tile, kColumnBlock);
              kernels_.residual_add(end - begin, tile, scratch_.x + at, width);
            });
  if (by_rows) {
    AddRows(layer, site, product, post_norm);
  } else if (post_norm != nullptr) {
    AddNormed(post_norm);
  }
}

void CpuStep::AddNormed(const float* post_norm) {
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernels_.add_rms_norm(scratch_.projected + row * shape_.hidden_width,
                            post_norm, shape_.hidden, shape_.hidden_width,
                            config_.norm_eps,
                            scratch_.x + row * shape_.hidden_width);
    }
  });
}

void CpuStep::ProjectMlp(int32_t layer) {
  const CpuLayerWeights& weights = LayerWeights(layer);
  const Product product = {
      scratch_.normed,
      shape_.hidden_stride,
      shape_.hidden_pairs,
      weights.gate_up,
      scratch_.normed_int8,
      FirstBlock(weights.down, shape_.hidden_width / kColumnBlock, 1)};
  const bool gelu = config_.activation == Activation::kGeluTanh;
  const kernels::ActivateMulFn activate_mul =
      gelu ? kernels_.gelu_mul : kernels_.silu_mul;
  const kernels::ActivateFn activate = gelu ? kernels_.gelu : kernels_.silu;
  const int32_t slices = shape_.mlp_slices;
  // Up is the site's last slice, with a gate before it or not.
  const int32_t first_slice = 2 - slices;
  float* const* tiles = mine_.tiles;
  const bool by_rows = ByRows(LoraSite::kGateUp);
  BeginSite(layer, LoraSite::kGateUp);
  ForBlocks(
      shape_.mlp_width / kColumnBlock, rows_,
      [&](int32_t block, int32_t begin, int32_t end) {
        const bool last = last_block_;
        FetchSoon(layer, LoraSite::kGateUp, block + 1);
        for (int32_t i = 0; i < slices; ++i) {
          last_block_ = last && i + 1 == slices;
          float* c = tiles[i];
          int64_t ldc = kColumnBlock;
          if (by_rows) {
            ldc = scratch_.sums_stride;
            c = scratch_.sums + begin * ldc + i * shape_.mlp_width +
                block * kColumnBlock;
          }
          Multiply(product, slices * block + i, begin, end, c, ldc);
        }
        last_block_ = last;
        if (by_rows) return;
        for (int32_t i = 0; i < slices; ++i) {
          Expand(first_slice + i, block, begin, end, tiles[i], kColumnBlock);
        }
        bf16_t* out = scratch_.activated + begin * shape_.mlp_stride +
                      block * kColumnBlock;
        if (slices == 2) {
          activate_mul(end - begin, tiles[0], tiles[1], out, shape_.mlp_stride);
        } else {
          activate(end - begin, tiles[0], out, shape_.mlp_stride);
        }
      });
  if (by_rows) MlpRows(layer);
}

}  // namespace descant
