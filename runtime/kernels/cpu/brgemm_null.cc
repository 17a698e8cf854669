#include "runtime/base/check.h"
#include "runtime/kernels/cpu/brgemm.h"

namespace descant::kernels {

bool BrgemmBuilt() { return false; }

absl::Status BrgemmPrepare(int32_t, int64_t, int64_t) {
  return absl::UnavailableError("brgemm: this build has no LibTorch");
}

void BrgemmGemm(int32_t, int32_t, const bf16_t*, int64_t, const bf16_t*,
                int64_t, const bf16_t*, float*, int64_t, bool) {
  DESCANT_CHECK(BrgemmBuilt());
}

void BrgemmRelease() {}

absl::Status BrgemmTakeError() { return absl::OkStatus(); }

}  // namespace descant::kernels
