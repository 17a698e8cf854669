// What every kernel and packed layout agrees on.
#ifndef DESCANT_RUNTIME_KERNELS_LAYOUT_H_
#define DESCANT_RUNTIME_KERNELS_LAYOUT_H_

#include <cstdint>

namespace descant::kernels {

// A bf16 value is its 16 bits.
using bf16_t = uint16_t;

// Columns of a block of base weights and of LoRA's B.
inline constexpr int32_t kColumnBlock = 32;
// Columns of a block of LoRA's A.
inline constexpr int32_t kRankBlock = 16;

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_LAYOUT_H_
