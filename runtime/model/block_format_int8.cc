// int8 with one scale for each output channel: see runtime/kernels/int8.h.
#include <algorithm>
#include <cmath>

#include "runtime/base/status_macros.h"
#include "runtime/kernels/int8.h"
#include "runtime/model/block_format.h"

namespace descant {
namespace {

using kernels::kColumnBlock;
using kernels::kInt8HeaderBytes;

// Of value (column, row) behind the header.
int64_t IndexOf(int64_t column, int32_t row) {
  return column / 4 * 4 * kColumnBlock + 4 * row + column % 4;
}

// Round to nearest, so that the largest magnitude becomes 127.
void PackRow(const float* weights, int64_t columns, int32_t row,
             std::byte* block) {
  float max = 0;
  for (int64_t i = 0; i < columns; ++i) {
    max = std::max(max, std::fabs(weights[i]));
  }
  const float scale = max / 127.0f;
  const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
  int8_t* values = reinterpret_cast<int8_t*>(block + kInt8HeaderBytes);
  int32_t sum = 0;
  for (int64_t i = 0; i < columns; ++i) {
    const float value =
        std::clamp(std::rint(weights[i] * inverse), -127.0f, 127.0f);
    values[IndexOf(i, row)] = static_cast<int8_t>(value);
    sum += static_cast<int32_t>(value);
  }
  float* scales = reinterpret_cast<float*>(block);
  scales[row] = scale;
  reinterpret_cast<int32_t*>(scales + kColumnBlock)[row] = 128 * sum;
}

absl::Status Pack(const WeightSource& source, const WeightRows& rows,
                  PackScratch* scratch, std::byte* block) {
  scratch->fp32.resize(rows.rows * rows.columns);
  DESCANT_RETURN_IF_ERROR(source.ReadFp32(rows.kind, rows.layer, rows.row,
                                          absl::MakeSpan(scratch->fp32)));
  std::fill_n(block, kernels::Int8BlockBytes(rows.columns), std::byte{0});
  for (int32_t row = 0; row < rows.rows; ++row) {
    PackRow(scratch->fp32.data() + row * rows.columns, rows.columns, row,
            block);
  }
  return absl::OkStatus();
}

void Unpack(const std::byte* block, int32_t row, int64_t columns, float* out) {
  const float scale = reinterpret_cast<const float*>(block)[row];
  const int8_t* values =
      reinterpret_cast<const int8_t*>(block + kInt8HeaderBytes);
  for (int64_t i = 0; i < columns; ++i) {
    out[i] = scale * static_cast<float>(values[IndexOf(i, row)]);
  }
}

}  // namespace

const BlockFormat kInt8Blocks = {WeightType::kInt8, &kernels::Int8BlockBytes,
                                 &Pack, &Unpack};

}  // namespace descant
