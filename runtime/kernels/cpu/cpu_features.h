// Which kernels this machine runs.
#ifndef DESCANT_RUNTIME_KERNELS_CPU_CPU_FEATURES_H_
#define DESCANT_RUNTIME_KERNELS_CPU_CPU_FEATURES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/kernels/kernels.h"

namespace descant::kernels {

// In order: each runs where a later one does.
enum class CpuIsa : uint8_t {
  kScalar,
  kAvx2,    // AVX2 and FMA
  kAvx512,  // AVX-512 F, BW, DQ, VL and BF16
  kAmx,     // and AMX tiles with bf16, which the kernel let us use
};

absl::string_view CpuIsaName(CpuIsa isa);

// The best one of this machine: CPUID, the register state that the operating
// system saves (XGETBV), and for AMX its permission (arch_prctl).
CpuIsa DetectCpuIsa();

// DetectCpuIsa(), or the lower one that DESCANT_CPU_ISA (scalar, avx2, avx512,
// amx) asks for; then oneDNN's limit is lowered too, so call this before
// anything uses Torch. INVALID_ARGUMENT: an unknown name, or one that this
// machine has not.
absl::StatusOr<CpuIsa> ChooseCpuIsa();

// UNAVAILABLE: AMX in a build without LibTorch, whose micro-kernel it uses.
absl::StatusOr<const CpuKernels*> KernelsFor(CpuIsa isa);

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CPU_CPU_FEATURES_H_
