// An adapter as the CPU's kernels read it: all modules of a layer that share an
// input together, in blocks of columns.
#ifndef DESCANT_RUNTIME_MODEL_ADAPTER_PACKING_H_
#define DESCANT_RUNTIME_MODEL_ADAPTER_PACKING_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/kernels/layout.h"
#include "runtime/model/adapter_sites.h"
#include "runtime/model/memory_layout.h"
#include "runtime/model/weight_type.h"

namespace descant {

// One module of a site, or the part of a fused one that belongs to the slice:
// B [out, rank] in blocks of 32 columns, [ceil(out / 32)][rank_pairs][32][2].
struct PackedSlice {
  const std::byte* b = nullptr;
  int32_t rank_pairs = 0;  // 0: this adapter leaves the module alone
  // Of its columns in h, even. Slices of a fused module have the same.
  int32_t h_offset = 0;
};

// A of all modules of a site, one below the other, every one at an even row,
// padded to a multiple of 16: blocks of 16 columns [rank / 16][in / 2][16][2].
struct PackedSite {
  const std::byte* a = nullptr;
  // [rank]: of what a row of A gives. With int8 values, the product of the
  // module's scale, that of the row of A and that of the column of B which the
  // row meets: B itself then needs none.
  const float* scale = nullptr;
  int32_t rank = 0;  // 0: nothing at this site
  PackedSlice slices[kMaxSlices];
  // From `a` on: A, scales, and B of the slices in order.
  int64_t bytes = 0;
};

// Reused from layer to layer.
struct PackingScratch {
  std::vector<kernels::bf16_t> values;
  std::vector<int8_t> quantised;
  // Of the columns of each slice's B: the largest magnitude.
  std::vector<kernels::bf16_t> largest[kMaxSlices];
};

// The sites of one layer, [kLoraSites], in what `layout` hands out. Without
// scratch nothing is written, and only the size is meant.
//
// Int8: a row of A, and a column of B, is rounded from bf16 to multiples of a
// 127th of its largest magnitude.
void PackLayer(const LayerModules& modules, AdapterWeightType type,
               PackingScratch* scratch, MemoryLayout* layout,
               PackedSite* sites);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_ADAPTER_PACKING_H_
