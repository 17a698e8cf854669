// The AMX kernels as a table, and the check of them that a server makes before
// it relies on them.
#ifndef DESCANT_RUNTIME_KERNELS_CPU_AMX_H_
#define DESCANT_RUNTIME_KERNELS_CPU_AMX_H_

#include <cstdint>

#include "absl/status/status.h"
#include "runtime/kernels/cpu/brgemm.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/kernels.h"

namespace descant::kernels {

// AVX-512's table with everything that `amx`, which outlives it, has of its
// own.
CpuKernels AmxTable(const AmxKernels& amx);

// A GemmFn: BrgemmGemm on tiles that kAmx lends. The library and our kernels
// each remember how they configured the thread's tiles, so each has to know
// when the other took them.
template <const AmxKernels& kAmx>
void LentBrgemmGemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                    const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
                    int64_t ldc, bool accumulate) {
  kAmx.lend_tiles(&BrgemmRelease);
  BrgemmGemm(m, k_pairs, a, lda, b, ldb, next, c, ldc, accumulate);
}

// AmxTable with base weights by LibTorch's brgemm. REQUIRES: BrgemmBuilt().
template <const AmxKernels& kAmx>
CpuKernels AmxTableWithBrgemm() {
  CpuKernels table = AmxTable(kAmx);
  table.gemm = &LentBrgemmGemm<kAmx>;
  table.gemm_is_brgemm = true;
  return table;
}

// Small ragged cases of every kernel of `amx`: against the scalar ones, and
// bit for bit over row counts, which compares the tiles with the vectors that
// stand for them. INTERNAL: which kernel is wrong. Takes a few milliseconds
// and the calling thread's tiles, which it gives back.
absl::Status CheckAmx(const AmxKernels& amx);

// CheckAmx in a child process, so that an instruction which this processor
// refuses ends only that. INTERNAL: as CheckAmx, or the check died.
absl::Status CheckAmxApart(const AmxKernels& amx);

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CPU_AMX_H_
