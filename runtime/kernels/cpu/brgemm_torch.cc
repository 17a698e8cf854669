#include <ATen/native/CPUBlas.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <vector>

#include "runtime/kernels/cpu/brgemm.h"

namespace descant::kernels {
namespace {

// Rows of a call; each count is a kernel of its own.
constexpr int32_t kMaxRows = 32;

std::atomic<bool> failed{false};

void Call(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
          const bf16_t* b, int64_t ldb, float* c, int64_t ldc) {
  at::native::cpublas::brgemm(
      m, kColumnBlock, 2 * k_pairs, lda, ldb / 2, ldc, /*add_C=*/false,
      reinterpret_cast<const at::BFloat16*>(a),
      reinterpret_cast<const at::BFloat16*>(b), c, /*is_vnni=*/true);
}

}  // namespace

bool BrgemmBuilt() { return true; }

absl::Status BrgemmPrepare(int32_t k_pairs, int64_t lda, int64_t ldc) {
  const std::vector<bf16_t> a(kMaxRows * lda);
  const std::vector<bf16_t> b(2 * k_pairs * kColumnBlock);
  std::vector<float> c(kMaxRows * ldc);
  try {
    for (int32_t m = 1; m <= kMaxRows; ++m) {
      Call(m, k_pairs, a.data(), lda, b.data(), 2 * kColumnBlock, c.data(),
           ldc);
    }
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
  return absl::OkStatus();
}

void BrgemmGemm(int32_t m, int32_t k_pairs, const bf16_t* a, int64_t lda,
                const bf16_t* b, int64_t ldb, const bf16_t* next, float* c,
                int64_t ldc, bool accumulate) {
  try {
    for (int32_t row = 0; row < m; row += kMaxRows) {
      Call(std::min(m - row, kMaxRows), k_pairs, a + row * lda, lda, b, ldb,
           c + row * ldc, ldc);
    }
  } catch (const std::exception&) {
    failed.store(true, std::memory_order_relaxed);
  }
}

void BrgemmRelease() {
  try {
    at::native::cpublas::brgemm_release();
  } catch (const std::exception&) {
    failed.store(true, std::memory_order_relaxed);
  }
}

absl::Status BrgemmTakeError() {
  if (!failed.exchange(false, std::memory_order_relaxed)) {
    return absl::OkStatus();
  }
  return absl::InternalError("oneDNN's brgemm failed");
}

}  // namespace descant::kernels
