// Which kernels this machine runs.
#ifndef DESCANT_RUNTIME_KERNELS_CPU_CPU_FEATURES_H_
#define DESCANT_RUNTIME_KERNELS_CPU_CPU_FEATURES_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/kernels/kernels.h"

namespace descant::kernels {

// In order: each runs where a later one does.
enum class CpuIsa : uint8_t {
  kScalar,
  kAvx2,    // AVX2 and FMA
  kAvx512,  // AVX-512 F, BW, DQ, VL and BF16
  kAmx,     // and AMX tiles with bf16 and int8, which the kernel let us use
};

absl::string_view CpuIsaName(CpuIsa isa);

// The best one of this machine: CPUID, the register state that the operating
// system saves (XGETBV), and for AMX its permission (arch_prctl).
CpuIsa DetectCpuIsa();

// DetectCpuIsa(), or the lower one that DESCANT_CPU_ISA (scalar, avx2, avx512,
// amx) asks for; then oneDNN's limit is lowered too, so call this before
// anything uses Torch. AMX kernels are checked on this processor first
// (CheckAmxApart): where they are wrong it warns and takes kAvx512, unless AMX
// was asked for. INVALID_ARGUMENT: an unknown name, or one that this machine
// has not. INTERNAL: AMX was asked for and is wrong.
absl::StatusOr<CpuIsa> ChooseCpuIsa();

// The choice itself: `wanted` is DESCANT_CPU_ISA or null, `check_amx` is called
// if AMX would be chosen.
absl::StatusOr<CpuIsa> ChooseCpuIsaFrom(
    CpuIsa best, const char* wanted,
    absl::FunctionRef<absl::Status()> check_amx);

// UNAVAILABLE: this machine has not `isa`.
absl::StatusOr<const CpuKernels*> KernelsFor(CpuIsa isa);

}  // namespace descant::kernels

#endif  // DESCANT_RUNTIME_KERNELS_CPU_CPU_FEATURES_H_
