#include "runtime/model/adapter_sites.h"

#include <cstring>

#include "adapters/adapter.h"
#include "runtime/base/check.h"
#include "runtime/model/bfloat16_convert.h"

namespace descant {
namespace {

// The slices of a site that a module changes: several where it is fused.
struct Place {
  LoraSite site;
  int32_t first;
  int32_t count;
};

Place PlaceOf(LinearKind kind) {
  switch (kind) {
    case LinearKind::kQ:
      return {LoraSite::kQkv, 0, 1};
    case LinearKind::kK:
      return {LoraSite::kQkv, 1, 1};
    case LinearKind::kV:
      return {LoraSite::kQkv, 2, 1};
    case LinearKind::kQkv:
      return {LoraSite::kQkv, 0, 3};
    case LinearKind::kO:
      return {LoraSite::kOut, 0, 1};
    case LinearKind::kGate:
      return {LoraSite::kGateUp, 0, 1};
    case LinearKind::kUp:
      return {LoraSite::kGateUp, 1, 1};
    case LinearKind::kGateUp:
      return {LoraSite::kGateUp, 0, 2};
    case LinearKind::kDown:
      break;
  }
  return {LoraSite::kDown, 0, 1};
}

// Outputs of a slice.
int32_t SliceRows(const ModelConfig& config, LoraSite site, int32_t slice) {
  switch (site) {
    case LoraSite::kQkv:
      return (slice == 0 ? config.num_heads : config.num_kv_heads) *
             config.head_dim;
    case LoraSite::kGateUp:
      return config.intermediate_size;
    case LoraSite::kOut:
    case LoraSite::kDown:
      break;
  }
  return config.hidden_size;
}

}  // namespace

LayerModules TakeLayer(const ModelConfig& config, const Adapter& adapter,
                       int32_t layer, size_t* next) {
  LayerModules modules;
  for (; *next < adapter.modules.size(); ++*next) {
    const AdapterModule& module = adapter.modules[*next];
    if (module.layer != layer) break;
    const Place place = PlaceOf(module.kind);
    int32_t row = 0;
    for (int32_t i = place.first; i < place.first + place.count; ++i) {
      const int32_t rows = SliceRows(config, place.site, i);
      modules.at[static_cast<int>(place.site)][i] = {&module, row, rows};
      row += rows;
    }
    DESCANT_CHECK(row == module.b.rows);
  }
  return modules;
}

Adapter WithModulesOfKinds(const BaseShape& base, const Adapter& adapter) {
  Adapter whole = adapter;
  whole.modules.clear();
  for (const BaseModule& module : base.modules) {
    const uint32_t kind = 1u << static_cast<uint32_t>(module.kind);
    if (adapter.module_kinds != 0 && (adapter.module_kinds & kind) == 0) {
      continue;
    }
    whole.modules.push_back({module.layer,
                             module.kind,
                             adapter.max_rank,
                             0,
                             {Dtype::kF32, adapter.max_rank, module.in},
                             {Dtype::kF32, module.out, adapter.max_rank}});
  }
  return whole;
}

bool SharesA(const ModuleSlice (&slices)[kMaxSlices], int32_t i) {
  return i > 0 && slices[i].module == slices[i - 1].module;
}

int32_t SiteInputs(const ModuleSlice (&slices)[kMaxSlices]) {
  for (const ModuleSlice& slice : slices) {
    if (slice.module != nullptr) return slice.module->a.columns;
  }
  return 0;
}

void CopyRowsAsBf16(const AdapterMatrix& matrix, int64_t first, int64_t rows,
                    kernels::bf16_t* target) {
  const int64_t begin = first * matrix.columns;
  const int64_t count = rows * matrix.columns;
  switch (matrix.dtype) {
    case Dtype::kBF16:
      std::memcpy(target,
                  static_cast<const kernels::bf16_t*>(matrix.data) + begin,
                  count * sizeof(kernels::bf16_t));
      return;
    case Dtype::kF16:
      HalfToBFloat16(static_cast<const uint16_t*>(matrix.data) + begin, count,
                     target);
      return;
    case Dtype::kF32:
      FloatToBFloat16(static_cast<const float*>(matrix.data) + begin, count,
                      target);
      return;
    case Dtype::kOther:
      break;
  }
  DESCANT_CHECK(matrix.dtype != Dtype::kOther);
}

}  // namespace descant
