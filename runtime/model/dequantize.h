// Element types of stored weights and their exact values in fp32.
//
// Block formats are ggml's (https://github.com/ggml-org/ggml, ggml-common.h):
// 32 elements a block, a row is a whole number of blocks.
//   Q8_0: f16 d, int8 q[32]:          x[j] = q[j] * d
//   Q4_0: f16 d, uint8 q[16]:         x[j] = (low(q[j]) - 8) * d,
//                                     x[j + 16] = (high(q[j]) - 8) * d
//   Q4_1: f16 d, f16 m, uint8 q[16]:  x[j] = low(q[j]) * d + m, likewise
#ifndef DESCANT_RUNTIME_MODEL_DEQUANTIZE_H_
#define DESCANT_RUNTIME_MODEL_DEQUANTIZE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace descant {

enum class StorageType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1 };

struct StorageTraits {
  absl::string_view name;
  int32_t block_elements = 1;
  int32_t block_bytes = 0;
};
const StorageTraits& TraitsOf(StorageType type);

// `source` holds exactly out.size() elements, little-endian, unaligned.
// REQUIRES: out.size() is a whole number of blocks.
void Dequantize(StorageType type, absl::Span<const char> source,
                absl::Span<float> out);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_DEQUANTIZE_H_
