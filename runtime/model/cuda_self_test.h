// Whether a device's kernels compute what plain loops do, one by one, on small
// ragged inputs.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_SELF_TEST_H_
#define DESCANT_RUNTIME_MODEL_CUDA_SELF_TEST_H_

#include "runtime/model/device.h"
#include "runtime/model/self_test.h"

namespace descant {

// Every kernel of device->kernels(), "kernel route" and so on, and the
// library's product. Errors are relative to the terms that a value is made of;
// the bound is the rounding to the device's 16-bit type, or 0 where nothing is
// rounded. Takes some megabytes of the device, and gives them back. Nobody else
// uses the device meanwhile.
void TestCudaKernels(Device* device, SelfTestReport report);
// On the GPU that MakeCudaRunner takes; that it can't be used is a failure.
void TestFirstGpuKernels(SelfTestReport report);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_SELF_TEST_H_
