#include "runtime/model/adapter_packing.h"

#include <algorithm>
#include <bit>

#include "adapters/adapter.h"
#include "runtime/base/float16.h"
#include "runtime/kernels/packing.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::kColumnBlock;
using kernels::kRankBlock;
using kernels::RoundUp;

constexpr float kMostInt8 = 127;
constexpr bf16_t kMagnitude = 0x7fff;  // magnitudes are ordered as their bits

// Offsets and ranks of a site, without its bytes.
PackedSite PlanSite(const ModuleSlice (&slices)[kMaxSlices]) {
  PackedSite site;
  int32_t rank = 0;
  for (int32_t i = 0; i < kMaxSlices; ++i) {
    if (slices[i].module == nullptr) continue;
    const int32_t pairs = (slices[i].module->rank + 1) / 2;
    if (!SharesA(slices, i)) rank += 2 * pairs;
    site.slices[i].rank_pairs = pairs;
    site.slices[i].h_offset = rank - 2 * pairs;
  }
  site.rank = static_cast<int32_t>(RoundUp(rank, kRankBlock));
  return site;
}

float ScaleOf(bf16_t largest) { return ToFloat(BFloat16{largest}) / kMostInt8; }

// What a value is multiplied by, before it is rounded. (Of the smallest
// magnitudes the reciprocal is not finite.)
float InverseOf(bf16_t largest) {
  const float most = ToFloat(BFloat16{largest});
  return most < 1e-30f ? 0 : kMostInt8 / most;
}

// To nearest, ties to even. |value| <= 128.
int8_t RoundToInt8(float value) {
  constexpr float kShift = 0x1.8p23f;  // its unit in the last place is 1
  const int32_t rounded =
      std::bit_cast<int32_t>(value + kShift) - std::bit_cast<int32_t>(kShift);
  return static_cast<int8_t>(std::clamp(rounded, -127, 127));
}

void QuantiseRow(const bf16_t* values, int64_t count, int8_t* quantised,
                 float* scale) {
  bf16_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max<bf16_t>(largest, values[i] & kMagnitude);
  }
  *scale *= ScaleOf(largest);
  const float inverse = InverseOf(largest);
  for (int64_t i = 0; i < count; ++i) {
    quantised[i] = RoundToInt8(ToFloat(BFloat16{values[i]}) * inverse);
  }
}

// Those of B's columns, for each slice.
void FindLargest(const ModuleSlice (&slices)[kMaxSlices],
                 PackingScratch* scratch) {
  for (int32_t slice = 0; slice < kMaxSlices; ++slice) {
    if (slices[slice].module == nullptr) continue;
    std::vector<bf16_t>& largest = scratch->largest[slice];
    if (SharesA(slices, slice)) {
      largest = scratch->largest[slice - 1];
      continue;
    }
    const AdapterMatrix& b = slices[slice].module->b;
    const int64_t rank = b.columns;
    scratch->values.resize(b.rows * rank);
    CopyRowsAsBf16(b, 0, b.rows, scratch->values.data());
    largest.assign(rank, 0);
    for (int64_t row = 0; row < b.rows; ++row) {
      const bf16_t* values = scratch->values.data() + row * rank;
      for (int64_t r = 0; r < rank; ++r) {
        largest[r] = std::max<bf16_t>(largest[r], values[r] & kMagnitude);
      }
    }
  }
}

// Packs rows [0, rows) of `values`, of `k` columns, in blocks of `width`.
template <typename Value>
void PackBlocks(const Value* values, int64_t rows, int64_t k, int32_t width,
                std::byte* blocks) {
  auto* block = reinterpret_cast<Value*>(blocks);
  for (int64_t row = 0; row < rows; row += width) {
    kernels::PackBlock(
        values + row * k, k,
        static_cast<int32_t>(std::min<int64_t>(width, rows - row)), k, width,
        block + row * RoundUp(k, 2));
  }
}

void PackA(const ModuleSlice (&slices)[kMaxSlices], const PackedSite& site,
           AdapterWeightType type, PackingScratch* scratch, std::byte* a,
           float* scale) {
  const int64_t in = SiteInputs(slices);
  const bool int8 = type == AdapterWeightType::kInt8;
  std::vector<bf16_t>& rows = scratch->values;
  rows.assign(site.rank * in, 0);
  std::fill_n(scale, site.rank, 0.0f);
  if (int8) scratch->quantised.assign(site.rank * in, 0);
  for (int32_t i = 0; i < kMaxSlices; ++i) {
    const AdapterModule* module = slices[i].module;
    if (module == nullptr || SharesA(slices, i)) continue;
    const int32_t offset = site.slices[i].h_offset;
    CopyRowsAsBf16(module->a, 0, module->rank, rows.data() + offset * in);
    std::fill_n(scale + offset, module->rank, module->scale);
    for (int32_t r = 0; int8 && r < module->rank; ++r) {
      QuantiseRow(rows.data() + (offset + r) * in, in,
                  scratch->quantised.data() + (offset + r) * in,
                  scale + offset + r);
      scale[offset + r] *= ScaleOf(scratch->largest[i][r]);
    }
  }
  if (int8) {
    PackBlocks(scratch->quantised.data(), site.rank, in, kRankBlock, a);
  } else {
    PackBlocks(rows.data(), site.rank, in, kRankBlock, a);
  }
}

void PackB(const ModuleSlice& slice, AdapterWeightType type,
           const std::vector<bf16_t>& largest, PackingScratch* scratch,
           std::byte* b) {
  const int64_t out = slice.rows;
  const int64_t rank = slice.module->rank;
  std::vector<bf16_t>& rows = scratch->values;
  rows.resize(out * rank);
  CopyRowsAsBf16(slice.module->b, slice.first_row, out, rows.data());
  if (type == AdapterWeightType::kBf16) {
    PackBlocks(rows.data(), out, rank, kColumnBlock, b);
    return;
  }
  std::vector<float> inverse(rank);
  std::transform(largest.begin(), largest.end(), inverse.begin(), &InverseOf);
  std::vector<int8_t>& quantised = scratch->quantised;
  quantised.resize(out * rank);
  for (int64_t row = 0; row < out; ++row) {
    for (int64_t r = 0; r < rank; ++r) {
      quantised[row * rank + r] =
          RoundToInt8(ToFloat(BFloat16{rows[row * rank + r]}) * inverse[r]);
    }
  }
  PackBlocks(quantised.data(), out, rank, kColumnBlock, b);
}

}  // namespace

void PackLayer(const LayerModules& modules, AdapterWeightType type,
               PackingScratch* scratch, MemoryLayout* layout,
               PackedSite* sites) {
  const int64_t value = AdapterWeightBytes(type);
  for (int32_t s = 0; s < kLoraSites; ++s) {
    const auto& slices = modules.at[s];
    PackedSite site = PlanSite(slices);
    if (scratch && type == AdapterWeightType::kInt8) {
      FindLargest(slices, scratch);
    }
    const uint64_t begin = layout->size();
    if (site.rank != 0) {
      auto* a = layout->Take<std::byte>(value * site.rank *
                                        RoundUp(SiteInputs(slices), 2));
      auto* scale = layout->Take<float>(site.rank);
      if (scratch) PackA(slices, site, type, scratch, a, scale);
      site.a = a;
      site.scale = scale;
    }
    for (int32_t i = 0; i < kMaxSlices; ++i) {
      const ModuleSlice& slice = slices[i];
      if (slice.module == nullptr) continue;
      auto* b = layout->Take<std::byte>(
          value *
          kernels::PackedSize(slice.rows, slice.module->rank, kColumnBlock));
      if (scratch) PackB(slice, type, scratch->largest[i], scratch, b);
      site.slices[i].b = b;
    }
    site.bytes = static_cast<int64_t>(layout->size() - begin);
    sites[s] = site;
  }
}

}  // namespace descant
