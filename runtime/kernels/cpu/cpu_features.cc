#include "runtime/kernels/cpu/cpu_features.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/cpu/amx.h"
#include "runtime/kernels/cpu/brgemm.h"
#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {
namespace {

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero where the processor has no such leaf.
Leaf Cpuid(uint32_t leaf, uint32_t subleaf) {
  Leaf r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) {
    return Leaf{};
  }
  return r;
}

constexpr bool Has(uint32_t word, int bit) { return (word >> bit & 1u) != 0; }

// Register state that the operating system saves on a context switch.
uint64_t SavedState() {
  if (!Has(Cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

constexpr uint64_t kStateAvx = 0x6;      // SSE and AVX
constexpr uint64_t kStateAvx512 = 0xe6;  // and opmask, upper halves
constexpr uint64_t kStateAmx = 0x60000;  // tile configuration and data

bool Saves(uint64_t state) { return (SavedState() & state) == state; }

bool HasAvx2() {
  const Leaf one = Cpuid(1, 0);
  const Leaf seven = Cpuid(7, 0);
  return Saves(kStateAvx) && Has(one.ecx, 12) && Has(one.ecx, 28) &&
         Has(seven.ebx, 5);
}

bool HasAvx512Bf16() {
  const uint32_t ebx = Cpuid(7, 0).ebx;
  return HasAvx2() && Saves(kStateAvx512) && Has(ebx, 16) && Has(ebx, 17) &&
         Has(ebx, 30) && Has(ebx, 31) && Has(Cpuid(7, 1).eax, 5);
}

bool HasAvx512Vnni() { return HasAvx512Bf16() && Has(Cpuid(7, 0).ecx, 11); }

bool HasAvxVnni() { return HasAvx2() && Has(Cpuid(7, 1).eax, 4); }

bool HasAmx() {
  const uint32_t edx = Cpuid(7, 0).edx;
  if (!HasAvx512Bf16()) return false;
  if (!Has(edx, 22) || !Has(edx, 24) || !Has(edx, 25)) return false;
  if (!Saves(kStateAmx)) return false;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// oneDNN's name of the highest set it may use.
const char* OneDnnLimit(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar:
      return "SSE41";
    case CpuIsa::kAvx2:
      return "AVX2";
    case CpuIsa::kAvx512:
      return "AVX512_CORE_BF16";
    case CpuIsa::kAmx:
      break;
  }
  return nullptr;
}

// The best int8 GEMM of the sets up to `isa` that this machine has. All give
// the same bits.
CpuKernels WithInt8Gemm(CpuKernels kernels, CpuIsa isa) {
  if (isa >= CpuIsa::kAvx512 && HasAvx512Vnni()) {
    kernels.int8.gemm = &GemmInt8Avx512;
  } else if (HasAvxVnni()) {
    kernels.int8.gemm = &GemmInt8AvxVnni;
  } else {
    kernels.int8.gemm = &GemmInt8Avx2;
  }
  return kernels;
}

// With LibTorch's product for base weights where it is there.
const CpuKernels* AmxKernelsOfBuild() {
  static const CpuKernels table =
      BrgemmBuilt() ? AmxTableWithBrgemm<kAmxKernels>() : AmxTable(kAmxKernels);
  return &table;
}

absl::Status CheckAmxOnce() {
  static const absl::Status* const status =
      new absl::Status(CheckAmxApart(kAmxKernels));
  return *status;
}

}  // namespace

absl::string_view CpuIsaName(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar:
      return "scalar";
    case CpuIsa::kAvx2:
      return "avx2";
    case CpuIsa::kAvx512:
      return "avx512";
    case CpuIsa::kAmx:
      break;
  }
  return "amx";
}

CpuIsa DetectCpuIsa() {
  if (HasAmx()) return CpuIsa::kAmx;
  if (HasAvx512Bf16()) return CpuIsa::kAvx512;
  if (HasAvx2()) return CpuIsa::kAvx2;
  return CpuIsa::kScalar;
}

absl::StatusOr<CpuIsa> ChooseCpuIsaFrom(
    CpuIsa best, const char* wanted,
    absl::FunctionRef<absl::Status()> check_amx) {
  if (wanted == nullptr || *wanted == '\0') {
    if (best != CpuIsa::kAmx) return best;
    const absl::Status status = check_amx();
    if (status.ok()) return best;
    LogWarning("not using AMX: ", status.message());
    return CpuIsa::kAvx512;
  }
  for (const CpuIsa isa :
       {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAmx}) {
    if (absl::string_view(wanted) != CpuIsaName(isa)) continue;
    if (isa > best) {
      return absl::InvalidArgumentError(absl::StrCat("DESCANT_CPU_ISA=", wanted,
                                                     ": this machine has only ",
                                                     CpuIsaName(best)));
    }
    if (isa == CpuIsa::kAmx) DESCANT_RETURN_IF_ERROR(check_amx());
    return isa;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "DESCANT_CPU_ISA must be scalar, avx2, avx512 or amx, not ", wanted));
}

absl::StatusOr<CpuIsa> ChooseCpuIsa() {
  const CpuIsa best = DetectCpuIsa();
  const char* wanted = std::getenv("DESCANT_CPU_ISA");
  DESCANT_ASSIGN_OR_RETURN(const CpuIsa isa,
                           ChooseCpuIsaFrom(best, wanted, CheckAmxOnce));
  const bool asked = wanted != nullptr && *wanted != '\0';
  if (asked || isa < best) {
    if (const char* limit = OneDnnLimit(isa)) {
      setenv("ONEDNN_MAX_CPU_ISA", limit, /*overwrite=*/1);
    }
  }
  return isa;
}

absl::StatusOr<const CpuKernels*> KernelsFor(CpuIsa isa) {
  if (isa > DetectCpuIsa()) {
    return absl::UnavailableError(
        absl::StrCat("this machine has not ", CpuIsaName(isa)));
  }
  switch (isa) {
    case CpuIsa::kScalar:
      return &kScalarKernels;
    case CpuIsa::kAvx2: {
      static const CpuKernels avx2 = WithInt8Gemm(kAvx2Kernels, isa);
      return &avx2;
    }
    case CpuIsa::kAvx512: {
      static const CpuKernels avx512 = WithInt8Gemm(kAvx512Kernels, isa);
      return &avx512;
    }
    case CpuIsa::kAmx:
      break;
  }
  return AmxKernelsOfBuild();
}

}  // namespace descant::kernels
