// bf16 in pairs along the columns: see runtime/kernels/packing.h.
#include "runtime/base/status_macros.h"
#include "runtime/kernels/packing.h"
#include "runtime/model/block_format.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::kColumnBlock;

int64_t Bytes(int64_t columns) {
  return kernels::PackedSize(kColumnBlock, columns, kColumnBlock) *
         static_cast<int64_t>(sizeof(bf16_t));
}

absl::Status Pack(const WeightSource& source, const WeightRows& rows,
                  PackScratch* scratch, std::byte* block) {
  scratch->bf16.resize(rows.rows * rows.columns);
  DESCANT_RETURN_IF_ERROR(source.ReadBf16(rows.kind, rows.layer, rows.row,
                                          absl::MakeSpan(scratch->bf16)));
  kernels::PackBlock(&scratch->bf16.data()->bits, rows.columns, rows.rows,
                     rows.columns, kColumnBlock,
                     reinterpret_cast<bf16_t*>(block));
  return absl::OkStatus();
}

void Unpack(const std::byte* block, int32_t row, int64_t columns, float* out) {
  const bf16_t* pairs = reinterpret_cast<const bf16_t*>(block);
  for (int64_t i = 0; i < columns; ++i) {
    out[i] = ToFloat(
        BFloat16{pairs[kernels::PackedIndex(row, i, columns, kColumnBlock)]});
  }
}

}  // namespace

const BlockFormat kBf16Blocks = {WeightType::kBf16, &Bytes, &Pack, &Unpack};

}  // namespace descant
