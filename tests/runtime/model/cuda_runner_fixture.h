// What tests of the CUDA runner share: tiny models, over the emulated kernels.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_CUDA_RUNNER_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_MODEL_CUDA_RUNNER_FIXTURE_H_

#include <memory>

#include "runtime/model/cuda_runner.h"
#include "tests/runtime/model/cpu_runner_fixture.h"
#include "tests/runtime/model/host_device.h"

namespace descant {

class CudaRunnerFixture : public CpuRunnerFixture {
 protected:
  std::unique_ptr<CudaRunner> MakeCudaRunner(
      int32_t sequences, int32_t length,
      kernels::HalfType half = kernels::HalfType::kBf16) {
    RunnerOptions options;
    options.limits =
        DriverLimits(sequences, length, static_cast<int32_t>(adapters_.size()));
    options.adapter_bytes = uint64_t{16} << 20;
    options.kv_bytes = uint64_t{16} << 20;
    auto runner = CudaRunner::Create(model_, options, MakeHostDevice(half));
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return nullptr;
    for (size_t slot = 0; slot < adapters_.size(); ++slot) {
      EXPECT_TRUE((*runner)
                      ->LoadAdapter(static_cast<int32_t>(slot), adapters_[slot])
                      .ok());
    }
    return *std::move(runner);
  }
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_CUDA_RUNNER_FIXTURE_H_
