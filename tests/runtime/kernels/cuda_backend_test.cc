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
  EXPECT_FALSE(CudaScaleRows(nullptr, 1, 1, nullptr, nullptr).ok());
}

}  // namespace
}  // namespace descant::kernels
