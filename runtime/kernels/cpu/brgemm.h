// LibTorch's door to oneDNN's batch-reduce GEMM: AMX where the machine has it.
// A build without LibTorch links a twin that reports so.
#ifndef DESCANT_RUNTIME_KERNELS_CPU_BRGEMM_H_
#define DESCANT_RUNTIME_KERNELS_CPU_BRGEMM_H_

#include <cstdint>

#include "absl/status/status.h"
#include "runtime/kernels/kernels.h"

namespace descant::kernels {

bool BrgemmBuilt();

// Compiles the kernels of every row count for one shape, for the calling
// thread: the library keeps them per thread. Call it on each worker and for
// each (k_pairs, lda, ldc) that steps will use. INTERNAL: the library refused;
// UNAVAILABLE: not built.
absl::Status BrgemmPrepare(int32_t k_pairs, int64_t lda, int64_t ldc);

// A GemmFn. REQUIRES: built; accumulate is false.
void BrgemmGemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
                int64_t ldc, bool accumulate);

// Gives the thread's tile registers back.
void BrgemmRelease();

// OK, or why a BrgemmGemm failed since the last call (its results are then
// undefined). Thread-safe.
absl::Status BrgemmTakeError();

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CPU_BRGEMM_H_
