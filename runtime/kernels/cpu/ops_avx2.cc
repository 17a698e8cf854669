// Row operations and attention for AVX2 and FMA.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

constexpr GemmFn kGemm = &GemmAvx2;
#include "runtime/kernels/cpu/simd_avx2.inc"
// After the lanes.
#include "runtime/kernels/cpu/ops.inc"

}  // namespace

const CpuKernels kAvx2Kernels = {"avx2",   &GemmAvx2,    &GemmAvx2, &ShrinkAvx2,
                                 &RmsNorm, &ResidualAdd, &SiluMul,  &Rope,
                                 &ToBf16,  &Attention,   nullptr};

}  // namespace descant::kernels
