// Whether an instruction set's kernels compute what the scalar ones do, one by
// one, on small ragged inputs.
#ifndef DESCANT_RUNTIME_MODEL_CPU_SELF_TEST_H_
#define DESCANT_RUNTIME_MODEL_CPU_SELF_TEST_H_

#include "runtime/kernels/kernels.h"
#include "runtime/model/self_test.h"

namespace descant {

// Every kernel of `kernels`, "kernel gemm" and so on; attention in parts and
// its merge are one check. Errors are relative to a value of 1, or to the value
// itself where that is more; the bound is what another order of additions, and
// rounding to bf16, may change, or 0 where all sets have equal bits.
void TestCpuKernels(const kernels::CpuKernels& kernels, SelfTestReport report);

// Those of the instruction set that the CPU runner takes. Where there is none
// for this machine, that is a failed check.
void TestCpuKernelsInUse(SelfTestReport report);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_SELF_TEST_H_
