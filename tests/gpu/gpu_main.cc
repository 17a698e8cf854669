// The main function of the device tests: without a GPU none of them runs, and
// nothing passes.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "runtime/kernels/cuda/cuda_backend.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const auto devices = descant::kernels::ListCudaDevices(); !devices.ok()) {
    // CTest knows a test that was skipped by this line.
    std::printf("not run: no GPU (%s)\n",
                std::string(devices.status().message()).c_str());
    return 0;
  }
  return RUN_ALL_TESTS();
}
