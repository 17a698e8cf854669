// What tests of the CUDA runner share: tiny models, over the emulated kernels.
#ifndef DESCANT_TESTS_RUNTIME_MODEL_CUDA_RUNNER_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_MODEL_CUDA_RUNNER_FIXTURE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/kernels/cuda/cuda_sampling.h"
#include "runtime/model/cuda_runner.h"
#include "tests/runtime/model/cpu_runner_fixture.h"
#include "tests/runtime/model/host_device.h"

namespace descant {

class CudaRunnerFixture : public CpuRunnerFixture {
 protected:
  std::unique_ptr<CudaRunner> MakeCudaRunner(
      int32_t sequences, int32_t length,
      kernels::HalfType half = kernels::HalfType::kBf16,
      uint64_t gather_bytes = kGatherBytes) {
    RunnerOptions options;
    options.limits =
        DriverLimits(sequences, length, static_cast<int32_t>(adapters_.size()));
    options.adapter_bytes = uint64_t{16} << 20;
    options.kv_bytes = uint64_t{16} << 20;
    auto runner =
        CudaRunner::Create(model_, options, MakeHostDevice(half), gather_bytes);
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return nullptr;
    LoadAdapters(runner->get());
    return *std::move(runner);
  }

  // With as many log-probabilities as the device gives.
  std::vector<DrivenSequence> CudaGoldenSequences() const {
    std::vector<DrivenSequence> sequences = GoldenSequences();
    for (DrivenSequence& sequence : sequences) {
      sequence.sampling.top_logprobs = kernels::kMaxSampleTop;
    }
    return sequences;
  }

  // The emulation is slow: of each adapter, the longest case of at most two
  // pages, and some tokens of it.
  void KeepShortCases() {
    constexpr size_t kLongestKept = 48;
    constexpr size_t kTokens = 4;
    std::map<std::string, GoldenCase> kept;
    for (const GoldenCase& one : golden_.cases) {
      if (one.prompt.size() > kLongestKept) continue;
      GoldenCase& longest = kept[one.adapter];
      if (one.prompt.size() > longest.prompt.size()) longest = one;
    }
    golden_.cases.clear();
    for (auto& [adapter, one] : kept) {
      one.tokens.resize(kTokens);
      golden_.cases.push_back(one);
    }
  }
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_MODEL_CUDA_RUNNER_FIXTURE_H_
