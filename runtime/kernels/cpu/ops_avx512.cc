// Row operations and attention for AVX-512 with BF16.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

constexpr GemmFn kGemm = &GemmAvx512;
#include "runtime/kernels/cpu/simd_avx512.inc"
// After the lanes.
#include "runtime/kernels/cpu/ops.inc"

}  // namespace

const CpuKernels kAvx512Kernels = {"avx512_bf16", &GemmAvx512, &GemmAvx512,
                                   &ShrinkAvx512, &RmsNorm,    &ResidualAdd,
                                   &SiluMul,      &Rope,       &ToBf16,
                                   &Attention,    nullptr};

}  // namespace descant::kernels
