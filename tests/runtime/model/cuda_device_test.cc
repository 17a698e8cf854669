// What there is of a GPU on a machine without one.
#include "runtime/model/cuda_device.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "runtime/kernels/cuda/cuda_backend.h"
#include "runtime/model/cuda_device_module.h"

namespace descant {
namespace {

TEST(CudaDeviceTest, WithoutAGpuItSaysSoInOneLine) {
  if (kernels::ListCudaDevices().ok()) GTEST_SKIP() << "there is a GPU";
  const auto device = MakeCudaDevice(0, kernels::HalfType::kBf16);
  EXPECT_EQ(device.status().code(), kernels::CudaBuilt()
                                        ? absl::StatusCode::kUnavailable
                                        : absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(device.status().message().empty());
  EXPECT_FALSE(absl::StrContains(device.status().message(), "\n"));
}

// It needs no GPU before it makes a device.
TEST(CudaDeviceTest, TheModuleLoads) {
  if (!kernels::CudaBuilt()) GTEST_SKIP() << "built without CUDA";
  const char* folder = std::getenv("DESCANT_DEPS_DIR");
  if (folder == nullptr ||
      !std::filesystem::exists(std::string(folder) + "/cuda/lib/.complete")) {
    GTEST_SKIP() << "LibTorch's CUDA libraries are not there (deploy/setup.sh "
                    "--cuda)";
  }
  void* module = dlopen(kCudaDeviceModule, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(module, nullptr) << dlerror();
  EXPECT_NE(dlsym(module, kCudaDeviceFactory), nullptr) << dlerror();
}

}  // namespace
}  // namespace descant
