// Element types of stored weights and their exact values in fp32.
//
// Block formats are ggml's (https://github.com/ggml-org/ggml, ggml-common.h); a
// row is a whole number of blocks. Below, d and m are f16; products and sums
// are rounded to fp32 one by one, from the left, so that values are the same
// bits as those of the `gguf` package.
//
// 32 elements, j < 16; low and high are the nibbles of q[j]; h is a 32-bit mask
// whose bit i is the fifth bit of element i:
//   Q8_0    d, int8 q[32]:          x[j] = q[j] d
//   Q4_0    d, q[16]:               x[j] = (low - 8) d, x[j + 16] = (high - 8)
//   d Q4_1    d, m, q[16]:            x[j] = low d + m, likewise Q5_0    d, h,
//   q[16]:            x[j] = (low + 16 h - 16) d, likewise Q5_1    d, m, h,
//   q[16]:         x[j] = (low + 16 h) d + m, likewise IQ4_NL  d, q[16]: x[j] =
//   d level[low], likewise
//
// 256 elements, in groups with a small integer scale s, some a minimum t:
//   Q2_K    st[16], q[64], d, m:    x = (d s) q - m t, groups of 16, 2 bits
//   Q3_K    h[32], q[64], s[12], d: x = (d (s - 32)) (q - 4 unless h), of 16
//   Q4_K    d, m, st[12], q[128]:   x = (d s) q - m t, groups of 32, 4 bits
//   Q5_K    d, m, st[12], h[32], q[128]: the same with 5 bits
//   Q6_K    q[128], h[64], int8 s[16], d: x = (d s) (q - 32), groups of 16
//   IQ4_XS  d, sh[2], sl[4], q[128]: x = (d (s - 32)) level[q], groups of 32
#ifndef DESCANT_RUNTIME_MODEL_DEQUANTIZE_H_
#define DESCANT_RUNTIME_MODEL_DEQUANTIZE_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "runtime/base/float16.h"

namespace descant {

enum class StorageType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kIQ4_NL,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ4_XS,
};
inline constexpr int kStorageTypes = static_cast<int>(StorageType::kIQ4_XS) + 1;

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

// The same values rounded to bf16, to nearest even.
void DequantizeToBf16(StorageType type, absl::Span<const char> source,
                      absl::Span<BFloat16> out);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_DEQUANTIZE_H_
