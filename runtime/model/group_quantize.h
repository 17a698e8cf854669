// Rows of weights to groups of 32 codes with f16 scales (kernels/groups.h).
#ifndef DESCANT_RUNTIME_MODEL_GROUP_QUANTIZE_H_
#define DESCANT_RUNTIME_MODEL_GROUP_QUANTIZE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "runtime/kernels/groups.h"
#include "runtime/model/dequantize.h"

namespace descant {

// One row: codes [k], scales [ceil(k / 32)].
struct GroupCodes {
  void Resize(int64_t k);
  kernels::GroupRow row() const { return {codes.data(), d.data(), m.data()}; }

  std::vector<uint8_t> codes;
  std::vector<uint16_t> d;
  std::vector<uint16_t> m;
};

// Whether every value stored as `type` has the same codes or, up to a constant,
// shifted ones in `format`: Q4_0 in all, Q4_1 in k4Min, Q8_0 in k8.
bool HoldsStored(kernels::GroupFormat format, StorageType type);

// A row's stored blocks, taken over. REQUIRES: HoldsStored; whole blocks.
void TakeStored(kernels::GroupFormat format, StorageType type,
                absl::Span<const char> blocks, GroupCodes* row);

// The nearest there is to `values`. k8: the largest magnitude becomes 127.
// k4Min: of a few widths of the codes' range, with scale and minimum fitted to
// each by least squares, the one with the least squared error. REQUIRES:
// finite values; not k4, which has no use but for what was stored so.
void QuantizeRow(kernels::GroupFormat format, absl::Span<const float> values,
                 GroupCodes* row);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_GROUP_QUANTIZE_H_
