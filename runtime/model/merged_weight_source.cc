#include "runtime/model/merged_weight_source.h"

#include <cstddef>
#include <utility>

#include "adapters/adapter.h"
#include "runtime/base/check.h"
#include "runtime/base/pacing.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/add_rows.h"
#include "runtime/model/bfloat16_convert.h"

namespace descant {
namespace {

// Of the background's work: a hundred microseconds or less.
constexpr int64_t kRowsBetweenBreaths = 4;

// Rows [first, first + rows) in fp32, appended to `out`.
void AppendRows(const AdapterMatrix& matrix, int64_t first, int64_t rows,
                std::vector<float>* out) {
  const int64_t begin = first * matrix.columns;
  const int64_t end = begin + rows * matrix.columns;
  const auto append = [&](const auto* values) {
    for (int64_t i = begin; i < end; ++i) out->push_back(ToFloat(values[i]));
  };
  switch (matrix.dtype) {
    case Dtype::kBF16:
      return append(static_cast<const BFloat16*>(matrix.data));
    case Dtype::kF16:
      return append(static_cast<const Float16*>(matrix.data));
    case Dtype::kF32: {
      const auto* values = static_cast<const float*>(matrix.data);
      out->insert(out->end(), values + begin, values + end);
      return;
    }
    case Dtype::kOther:
      break;
  }
  DESCANT_CHECK(matrix.dtype != Dtype::kOther);
}

// Adds rows [row_begin, ...) of scale B A to as many rows of `out` as it has.
void AddDelta(const ModuleSlice& slice, int64_t row_begin,
              absl::Span<float> out) {
  const AdapterModule& module = *slice.module;
  const int64_t columns = module.a.columns;
  const int64_t rank = module.rank;
  const int64_t rows = static_cast<int64_t>(out.size()) / columns;
  std::vector<float> a;
  a.reserve(rank * columns);
  AppendRows(module.a, 0, rank, &a);
  std::vector<float> b;
  b.reserve(rows * rank);
  AppendRows(module.b, slice.first_row + row_begin, rows, &b);
  for (float& factor : b) factor *= module.scale;
  for (int64_t row = 0; row < rows; ++row) {
    if (row % kRowsBetweenBreaths == 0) Breathe();
    AddRows(b.data() + row * rank, a.data(), rank, columns,
            out.data() + row * columns);
  }
}

}  // namespace

MergedWeightSource::MergedWeightSource(const ModelConfig& config,
                                       const WeightSource* base,
                                       std::shared_ptr<const Adapter> adapter)
    : config_(config), base_(base), adapter_(std::move(adapter)) {
  size_t next = 0;
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    layers_.push_back(TakeLayer(config_, *adapter_, layer, &next));
  }
}

const ModuleSlice* MergedWeightSource::SliceOf(WeightKind kind,
                                               int32_t layer) const {
  const auto at = [&](LoraSite site, int32_t slice) -> const ModuleSlice* {
    const ModuleSlice& found =
        layers_[layer].at[static_cast<int32_t>(site)][slice];
    return found.module == nullptr ? nullptr : &found;
  };
  switch (kind) {
    case WeightKind::kQuery:
      return at(LoraSite::kQkv, 0);
    case WeightKind::kKey:
      return at(LoraSite::kQkv, 1);
    case WeightKind::kValue:
      return at(LoraSite::kQkv, 2);
    case WeightKind::kAttentionOut:
      return at(LoraSite::kOut, 0);
    case WeightKind::kGate:
      return at(LoraSite::kGateUp, 0);
    case WeightKind::kUp:
      return at(LoraSite::kGateUp, 1);
    case WeightKind::kDown:
      return at(LoraSite::kDown, 0);
    default:
      return nullptr;
  }
}

absl::Status MergedWeightSource::ReadBf16(WeightKind kind, int32_t layer,
                                          int64_t row_begin,
                                          absl::Span<BFloat16> out) const {
  if (!IsMerged(kind, layer)) {
    return base_->ReadBf16(kind, layer, row_begin, out);
  }
  std::vector<float> values(out.size());
  DESCANT_RETURN_IF_ERROR(
      ReadFp32(kind, layer, row_begin, absl::MakeSpan(values)));
  FloatToBFloat16(values.data(), static_cast<int64_t>(values.size()),
                  &out.data()->bits);
  return absl::OkStatus();
}

absl::Status MergedWeightSource::ReadFp32(WeightKind kind, int32_t layer,
                                          int64_t row_begin,
                                          absl::Span<float> out) const {
  DESCANT_RETURN_IF_ERROR(base_->ReadFp32(kind, layer, row_begin, out));
  if (const ModuleSlice* slice = SliceOf(kind, layer)) {
    AddDelta(*slice, row_begin, out);
  }
  return absl::OkStatus();
}

}  // namespace descant
