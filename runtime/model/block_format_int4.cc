// Groups of 32 columns with a scale each: see runtime/kernels/groups.h. What a
// file stores so is taken as it is, the rest is quantised.
#include <algorithm>
#include <optional>

#include "runtime/base/status_macros.h"
#include "runtime/kernels/groups.h"
#include "runtime/model/block_format.h"
#include "runtime/model/group_quantize.h"

namespace descant {
namespace {

using kernels::GroupFormat;
using kernels::kColumnBlock;

template <GroupFormat kFormat>
int64_t Bytes(int64_t columns) {
  return kernels::GroupBlockBytes(kFormat, (columns + 1) / 2);
}

template <GroupFormat kFormat>
absl::Status Pack(const WeightSource& source, const WeightRows& rows,
                  PackScratch* scratch, std::byte* block) {
  auto* packed = reinterpret_cast<uint8_t*>(block);
  std::fill_n(packed, Bytes<kFormat>(rows.columns), uint8_t{0});
  const std::optional<StorageType> type =
      source.StoredAs(rows.kind, rows.layer);
  GroupCodes codes;
  if (type.has_value() && HoldsStored(kFormat, *type)) {
    const StorageTraits& traits = TraitsOf(*type);
    const int64_t row_bytes =
        rows.columns / traits.block_elements * traits.block_bytes;
    scratch->stored.resize(rows.rows * row_bytes);
    DESCANT_RETURN_IF_ERROR(source.ReadStored(rows.kind, rows.layer, rows.row,
                                              absl::MakeSpan(scratch->stored)));
    for (int32_t row = 0; row < rows.rows; ++row) {
      TakeStored(kFormat, *type,
                 absl::MakeConstSpan(scratch->stored)
                     .subspan(row * row_bytes, row_bytes),
                 &codes);
      kernels::PackGroupRow(kFormat, codes.row(), rows.columns, row, packed);
    }
    return absl::OkStatus();
  }
  scratch->fp32.resize(rows.rows * rows.columns);
  DESCANT_RETURN_IF_ERROR(source.ReadFp32(rows.kind, rows.layer, rows.row,
                                          absl::MakeSpan(scratch->fp32)));
  for (int32_t row = 0; row < rows.rows; ++row) {
    QuantizeRow(kFormat,
                absl::MakeConstSpan(scratch->fp32)
                    .subspan(row * rows.columns, rows.columns),
                &codes);
    kernels::PackGroupRow(kFormat, codes.row(), rows.columns, row, packed);
  }
  return absl::OkStatus();
}

// Rounded as the kernels round what they multiply by.
template <GroupFormat kFormat>
void Unpack(const std::byte* block, int32_t row, int64_t columns, float* out) {
  for (int64_t i = 0; i < columns; ++i) {
    out[i] = ToFloat(ToBFloat16(kernels::UnpackGroup(
        kFormat, reinterpret_cast<const uint8_t*>(block), row, i)));
  }
}

template <GroupFormat kFormat>
constexpr BlockFormat kFormatOf = {WeightType::kInt4, &Bytes<kFormat>,
                                   &Pack<kFormat>, &Unpack<kFormat>, kFormat};

// By GroupFormat, which are in order of their size.
constexpr const BlockFormat* kFormats[] = {&kFormatOf<GroupFormat::k4>,
                                           &kFormatOf<GroupFormat::k4Min>,
                                           &kFormatOf<GroupFormat::k8>};

bool Serves(GroupFormat format, const WeightSource& source, WeightKind kind,
            int32_t layer) {
  const std::optional<StorageType> type = source.StoredAs(kind, layer);
  for (const BlockFormat* any : kFormats) {
    if (type.has_value() && HoldsStored(any->group, *type)) {
      return HoldsStored(format, *type);
    }
  }
  // To be quantised: errors of the head count most.
  if (kind == WeightKind::kHead) return format == GroupFormat::k8;
  return format != GroupFormat::k4;
}

}  // namespace

const BlockFormat kInt4Blocks = kFormatOf<GroupFormat::k4Min>;

const BlockFormat* GroupBlocksFor(const WeightSource& source,
                                  absl::Span<const WeightKind> kinds,
                                  int32_t layer) {
  for (const BlockFormat* format : kFormats) {
    bool serves = true;
    for (const WeightKind kind : kinds) {
      serves = serves && Serves(format->group, source, kind, layer);
    }
    if (serves) return format;
  }
  return &kFormatOf<GroupFormat::k8>;
}

}  // namespace descant
