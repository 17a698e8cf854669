// The variants of the kernels, one per instruction set. Each lives in
// translation units of its own, compiled with that set's flags and sealed:
// unnamed namespaces, no standard library, no inline function of ours, so that
// no code of theirs can end up in the rest of the program.
#ifndef DESCANT_RUNTIME_KERNELS_CPU_VARIANTS_H_
#define DESCANT_RUNTIME_KERNELS_CPU_VARIANTS_H_

#include <cstddef>

#include "runtime/kernels/groups.h"
#include "runtime/kernels/kernels.h"

namespace descant::kernels {

// The oracle: plain loops, libm. Runs anywhere.
extern const CpuKernels kScalarKernels;
extern const CpuKernels kAvx2Kernels;    // AVX2, FMA
extern const CpuKernels kAvx512Kernels;  // AVX-512 F, BW, DQ, VL, BF16

extern const GroupKernels kScalarGroups;
extern const GroupKernels kAvx2Groups;
extern const GroupKernels kAvx512Groups;

extern const LoraKernels kAvx2Lora;
extern const LoraKernels kAvx2LoraInt8;
extern const LoraKernels kAvx512Lora;
extern const LoraKernels kAvx512LoraInt8;

void GemmAvx2(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
              const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
              int64_t ldc, bool accumulate);
// Rows of the largest tile of AVX-512's products, which fetch beside their
// weights where they have several.
inline constexpr int32_t kAvx512TileRows = 12;
void GemmBesideAvx512(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                      const bf16_t* b, int64_t ldb, const bf16_t* next,
                      float* c, int64_t ldc, FetchStream* beside);
void GemmAvx512(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
                int64_t ldc, bool accumulate);
void GemmInt8Avx2(int32_t m, int32_t k, const uint8_t* a, int64_t lda,
                  const float* a_scale, const std::byte* block,
                  const std::byte* next, float* c, int64_t ldc);
void GemmInt8AvxVnni(int32_t m, int32_t k, const uint8_t* a, int64_t lda,
                     const float* a_scale, const std::byte* block,
                     const std::byte* next, float* c, int64_t ldc);
// Needs AVX-512 VNNI beside.
void GemmInt8Avx512(int32_t m, int32_t k, const uint8_t* a, int64_t lda,
                    const float* a_scale, const std::byte* block,
                    const std::byte* next, float* c, int64_t ldc);

// What AMX has of its own, in a thread's tile registers (kernels_amx.cc).
struct AmxKernels {
  GemmFn gemm;       // tiles at any number of rows
  GemmFn tile;       // of few rows by vectors instead; the same bits
  LoraKernels lora;  // likewise; expand is of `tile`
  GemmInt8Fn gemm_int8;
  AttentionFn attention;
  AttentionPartFn attention_part;
  AttentionMergeFn attention_merge;
  // Says that the calling thread is about to use the tiles otherwise, and what
  // to call before they can be ours again.
  void (*lend_tiles)(void (*release)());
  // Gives the calling thread's tiles back, lent ones by their release.
  void (*release_tiles)();
};
extern const AmxKernels kAmxKernels;

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CPU_VARIANTS_H_
