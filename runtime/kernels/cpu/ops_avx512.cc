// Row operations and attention for AVX-512 with BF16.
#include <immintrin.h>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

#include "runtime/kernels/cpu/simd_avx512.inc"
// After the lanes.
#include "runtime/kernels/cpu/ops.inc"
// After the row operations.
#include "runtime/kernels/cpu/attention.inc"
#include "runtime/kernels/cpu/int8_rows.inc"

constexpr Int8Kernels kInt8 = {&GemmInt8Avx512, &Quantise, &RmsNormQuantise,
                               &LayerNormQuantise};

}  // namespace

const CpuKernels kAvx512Kernels = {.name = "avx512_bf16",
                                   .gemm = &GemmAvx512,
                                   .lora = &kAvx512Lora,
                                   .lora_int8 = &kAvx512LoraInt8,
                                   .groups = &kAvx512Groups,
                                   .rms_norm = &RmsNorm,
                                   .layer_norm = &LayerNorm,
                                   .add_rms_norm = &AddRmsNorm,
                                   .head_norm = &HeadNorm,
                                   .residual_add = &ResidualAdd,
                                   .bias_add = &BiasAdd,
                                   .soft_cap = &SoftCap,
                                   .silu_mul = &ActivateMul<SiluOp>,
                                   .gelu_mul = &ActivateMul<GeluOp>,
                                   .silu = &Activate<SiluOp>,
                                   .gelu = &Activate<GeluOp>,
                                   .rope = &Rope,
                                   .to_bf16 = &ToBf16,
                                   .attention = &Attention,
                                   .attention_part = &AttentionPart,
                                   .attention_merge = &AttentionMerge,
                                   .int8 = kInt8,
                                   .end_region = nullptr,
                                   .gemm_beside = &GemmBesideAvx512,
                                   .gemm_beside_from = kAvx512TileRows + 1};

}  // namespace descant::kernels
