// Which modules of an adapter a step meets together, whatever the backend that
// packs them.
#ifndef DESCANT_RUNTIME_MODEL_ADAPTER_SITES_H_
#define DESCANT_RUNTIME_MODEL_ADAPTER_SITES_H_

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/layout.h"
#include "runtime/model/model_config.h"

namespace descant {

struct Adapter;        // adapters/adapter.h
struct AdapterMatrix;  // adapters/adapter.h
struct AdapterModule;  // adapters/adapter.h
struct BaseShape;      // adapters/base_shape.h

// Where a step reads an activation once for several modules.
enum class LoraSite : uint8_t {
  kQkv,     // slices q, k, v
  kOut,     // o
  kGateUp,  // gate, up; a model without a gate has up alone
  kDown,    // down
};
inline constexpr int32_t kLoraSites = 4;
inline constexpr int32_t kMaxSlices = 3;

// A slice's rows of a module's B.
struct ModuleSlice {
  const AdapterModule* module = nullptr;
  int32_t first_row = 0;
  int32_t rows = 0;
};

// The modules of one layer, by site and slice. Slices of a fused module are
// neighbours.
struct LayerModules {
  ModuleSlice at[kLoraSites][kMaxSlices];
};

// Modules are sorted by layer: takes those of `layer` from `next` on.
LayerModules TakeLayer(const ModelConfig& config, const Adapter& adapter,
                       int32_t layer, size_t* next);

// Stands for an adapter whose tensors are elsewhere where only shapes count: on
// every module of its kinds, of all kinds where it doesn't say them. So it has
// at least the modules that the adapter has.
Adapter WithModulesOfKinds(const BaseShape& base, const Adapter& adapter);

// Whether slice i computes with the same A as the slice before.
bool SharesA(const ModuleSlice (&slices)[kMaxSlices], int32_t i);

// Inputs of a site's modules; 0: the adapter has none there.
int32_t SiteInputs(const ModuleSlice (&slices)[kMaxSlices]);

// Some rows of `matrix` as bf16, into [rows, columns].
void CopyRowsAsBf16(const AdapterMatrix& matrix, int64_t first, int64_t rows,
                    kernels::bf16_t* target);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_ADAPTER_SITES_H_
