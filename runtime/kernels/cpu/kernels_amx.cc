// Products and attention for AMX with bf16 and int8, beside AVX-512 with BF16.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

#include "runtime/kernels/cpu/tiles_amx.inc"
// After the tiles.
#include "runtime/kernels/cpu/kernels_amx.inc"

}  // namespace

const AmxKernels kAmxKernels = kTileKernels;

}  // namespace descant::kernels
