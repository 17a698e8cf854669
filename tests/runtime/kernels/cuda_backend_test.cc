#include "runtime/kernels/cuda/cuda_backend.h"

#include <gtest/gtest.h>

namespace descant::kernels {
namespace {

TEST(CudaBackendTest, SaysWhatThereIs) {
  const auto devices = ListCudaDevices();
  if (devices.ok()) {
    ASSERT_FALSE(devices->empty());
    EXPECT_GT(devices->front().memory_bytes, 0u);
    return;
  }
  EXPECT_EQ(CudaBuilt() ? absl::StatusCode::kUnavailable
                        : absl::StatusCode::kUnimplemented,
            devices.status().code())
      << devices.status();
}

TEST(CudaBackendTest, ALaunchWithoutADeviceSaysSo) {
  const CudaKernels* kernels = CudaKernelsOf(HalfType::kBf16);
  ASSERT_EQ(kernels != nullptr, CudaBuilt());
  if (kernels == nullptr) GTEST_SKIP() << "CUDA is not built";
  if (ListCudaDevices().ok()) GTEST_SKIP() << "there is a device";
  ActivateArgs args;
  args.rows = 1;
  args.width = 8;
  EXPECT_EQ(kernels->activate(args).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace descant::kernels
