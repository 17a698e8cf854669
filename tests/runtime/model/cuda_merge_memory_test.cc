// Merged weights on the emulated device as memory: what they take and give
// back, that the base's stay as they are, and that nobody uses them once they
// are gone.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/pacing.h"
#include "runtime/model/merged_weight_source.h"
#include "tests/runtime/model/cuda_runner_fixture.h"
#include "tests/runtime/model/merging_runner.h"

namespace descant {
namespace {

constexpr auto kBf16 = kernels::HalfType::kBf16;
constexpr int32_t kLength = 32;

class CudaMergeMemoryTest : public CudaRunnerFixture {
 protected:
  // Over a device of so many bytes; `device` is its.
  std::unique_ptr<CudaRunner> MakeRunnerOn(uint64_t capacity,
                                           const RunnerOptions& options,
                                           Device** device) {
    auto made = MakeHostDevice(kBf16, capacity);
    *device = made.get();
    auto runner = CudaRunner::Create(model_, options, std::move(made));
    EXPECT_TRUE(runner.ok()) << runner.status();
    if (!runner.ok()) return nullptr;
    LoadAdapters(runner->get());
    return *std::move(runner);
  }
  RunnerOptions SmallOptions() const {
    RunnerOptions options;
    options.limits =
        DriverLimits(2, kLength, static_cast<int32_t>(adapters_.size()));
    options.adapter_bytes = uint64_t{16} << 20;
    options.kv_bytes = uint64_t{1} << 20;
    return options;
  }
  std::vector<DrivenSequence> ShortSequences(int32_t slot) {
    auto sequences = RandomSequences(2, 3);
    for (DrivenSequence& sequence : sequences) {
      sequence.slot = slot;
      sequence.prompt.resize(3, 1);
      sequence.sampling.max_tokens = 4;
    }
    return sequences;
  }

  // Drives the same sequences as `expected` came from.
  void ExpectDrives(Runner* runner, int32_t slot,
                    const std::vector<DrivenResult>& expected) {
    const auto actual = Drive(runner, ShortSequences(slot));
    ASSERT_TRUE(actual.ok()) << actual.status();
    for (size_t i = 0; i < expected.size(); ++i) {
      ExpectSame(expected[i], (*actual)[i], "sequence");
    }
  }
};

std::vector<char> BytesOf(const CudaWeights& weights, Device* device) {
  // The embedding comes first.
  std::vector<char> bytes(weights.bytes());
  EXPECT_TRUE(
      device->CopyToHost(bytes.data(), weights.embedding(), bytes.size()).ok());
  EXPECT_TRUE(device->Synchronize().ok());
  return bytes;
}

TEST_F(CudaMergeMemoryTest, TheBaseIsNeverWrittenAndMemoryComesBack) {
  for (const char* name : {"tiny_llama", "tiny_phi3", "tiny_gpt2"}) {
    adapters_.clear();
    Load(name);
    const ModelConfig& config = model_->config;
    const auto device = MakeHostDevice(kBf16);
    const auto base = CudaWeights::Load(config, *model_->weights, device.get());
    ASSERT_TRUE(base.ok()) << base.status();
    const std::vector<char> before = BytesOf(**base, device.get());
    const uint64_t free = *device->FreeBytes();
    for (int32_t cycle = 0; cycle < 200; ++cycle) {
      const auto& adapter = adapters_[cycle % adapters_.size()];
      const MergedWeightSource source(config, model_->weights.get(), adapter);
      const auto merged =
          CudaWeights::Merge(config, source, **base, device.get());
      ASSERT_TRUE(merged.ok()) << merged.status();
      EXPECT_GT((*merged)->bytes(), 0u);
      EXPECT_LT((*merged)->bytes(), (*base)->bytes());
      EXPECT_EQ(*device->FreeBytes(), free - (*merged)->bytes());
    }
    EXPECT_EQ(*device->FreeBytes(), free);
    EXPECT_EQ(BytesOf(**base, device.get()), before) << name;
  }
}

// Groups that the adapter leaves alone are the base's own.
TEST_F(CudaMergeMemoryTest, OnlyWhatChangesIsLaidOutAnew) {
  Load("tiny_llama");
  const ModelConfig& config = model_->config;
  const auto device = MakeHostDevice(kBf16);
  const auto base = CudaWeights::Load(config, *model_->weights, device.get());
  ASSERT_TRUE(base.ok()) << base.status();
  int32_t shared = 0;
  for (const auto& adapter : adapters_) {
    const MergedWeightSource source(config, model_->weights.get(), adapter);
    const auto merged =
        CudaWeights::Merge(config, source, **base, device.get());
    ASSERT_TRUE(merged.ok()) << merged.status();
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      const CudaLayerWeights& from = (*base)->layer(layer);
      const CudaLayerWeights& to = (*merged)->layer(layer);
      EXPECT_EQ(to.qkv.bias, from.qkv.bias);
      EXPECT_EQ(to.mlp_norm.weight, from.mlp_norm.weight);
      EXPECT_EQ(to.down.w != from.down.w,
                source.IsMerged(WeightKind::kDown, layer));
      EXPECT_EQ(to.out.w != from.out.w,
                source.IsMerged(WeightKind::kAttentionOut, layer));
      shared += to.down.w == from.down.w;
    }
    EXPECT_EQ((*merged)->head().w, (*base)->head().w);
    EXPECT_EQ((*merged)->embedding(), (*base)->embedding());
  }
  EXPECT_GT(shared, 0);
}

TEST_F(CudaMergeMemoryTest, WithoutMemoryTheRunnerGoesOn) {
  Load("tiny_llama");
  constexpr int32_t kSlot = 2;
  constexpr uint64_t kPlenty = uint64_t{1} << 30;
  Device* device = nullptr;
  const auto roomy = MakeRunnerOn(kPlenty, SmallOptions(), &device);
  ASSERT_NE(roomy, nullptr);
  const uint64_t needed = kPlenty - *device->FreeBytes();
  const uint64_t merged_bytes = roomy->MergedBytes(*adapters_[kSlot]);
  // A ninth of the KV cache is about what is kept for the library.
  const uint64_t library = (SmallOptions().kv_bytes + 3 * merged_bytes) / 9;
  const auto runner =
      MakeRunnerOn(needed + library + merged_bytes + merged_bytes / 2,
                   SmallOptions(), &device);
  ASSERT_NE(runner, nullptr);
  const auto expected = Drive(runner.get(), ShortSequences(kSlot));
  ASSERT_TRUE(expected.ok()) << expected.status();
  auto first = runner->MergeAdapter(adapters_[kSlot]);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(runner->MergeAdapter(adapters_[kSlot]).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(runner->health().ok());
  ExpectDrives(runner.get(), kSlot, *expected);
  *first = nullptr;
  EXPECT_TRUE(runner->MergeAdapter(adapters_[kSlot]).ok());
}

TEST_F(CudaMergeMemoryTest, TheKvCacheLeavesWhatIsAskedFor) {
  Load("tiny_llama");
  RunnerOptions options = SmallOptions();
  options.kv_bytes = 0;
  options.limits.max_sequences = 2000;
  Device* device = nullptr;
  constexpr uint64_t kCapacity = uint64_t{64} << 20;
  const auto without = MakeRunnerOn(kCapacity, options, &device);
  const uint64_t free = *device->FreeBytes();
  options.merged_bytes = uint64_t{8} << 20;
  const auto with = MakeRunnerOn(kCapacity, options, &device);
  EXPECT_GE(*device->FreeBytes(), free + options.merged_bytes * 8 / 10);
  EXPECT_EQ(without->MergeAdapter(adapters_[0]).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(with->MergeAdapter(adapters_[0]).ok());
}

// Merged weights go between steps, others come: the graphs of those before are
// never replayed, or a step would fail.
TEST_F(CudaMergeMemoryTest, NoGraphOutlivesItsWeights) {
  Load("tiny_llama");
  Device* device = nullptr;
  const auto runner = MakeRunnerOn(uint64_t{1} << 30, SmallOptions(), &device);
  ASSERT_NE(runner, nullptr);
  const uint64_t free = *device->FreeBytes();
  MergingRunner merging(runner.get());
  std::vector<std::vector<DrivenResult>> first;
  for (int32_t cycle = 0; cycle < 6; ++cycle) {
    const int32_t slot = cycle % 2;
    auto merged = runner->MergeAdapter(adapters_[slot]);
    ASSERT_TRUE(merged.ok()) << merged.status();
    merging.by_slot = {{slot, *std::move(merged)}};
    const uint64_t graphs = runner->step_kinds().graph;
    if (cycle < 2) {
      auto results = Drive(&merging, ShortSequences(slot));
      ASSERT_TRUE(results.ok()) << results.status();
      first.push_back(*std::move(results));
    } else {
      ExpectDrives(&merging, slot, first[slot]);
    }
    EXPECT_GT(runner->step_kinds().graph, graphs);
    merging.by_slot.clear();
  }
  // (Sampling keeps the room of its largest step.)
  EXPECT_GE(*device->FreeBytes() + (uint64_t{1} << 16), free);
}

// That the test above would see it.
TEST_F(CudaMergeMemoryTest, TheDeviceFindsAUseOfFreedMemory) {
  const auto device = MakeHostDevice(kBf16);
  constexpr int32_t kSize = 8;
  auto memory = *device->Allocate(kSize * kSize * 2);
  auto weights = *device->Allocate(kSize * kSize * 2);
  MatrixProduct product;
  product.x = memory.data();
  product.y = memory.data();
  product.w = weights.data();
  product.rows = 1;
  product.columns = product.depth = kSize;
  product.x_stride = product.y_stride = kSize;
  auto graph = device->Capture([&] { return device->Multiply(product); });
  ASSERT_TRUE(graph.ok());
  EXPECT_TRUE((*graph)->Replay().ok());
  weights = DeviceMemory();
  const auto others = device->Allocate(kSize * kSize * 2);
  EXPECT_EQ((*graph)->Replay().code(), absl::StatusCode::kInternal);
}

class CountingPacer final : public Pacer {
 public:
  void Breathe() override { ++breaths; }
  int32_t breaths = 0;
};

// Built and dropped by another thread, while this one computes steps.
TEST_F(CudaMergeMemoryTest, MergesBesideSteps) {
  Load("tiny_phi3");
  Device* device = nullptr;
  const auto runner = MakeRunnerOn(uint64_t{1} << 30, SmallOptions(), &device);
  ASSERT_NE(runner, nullptr);
  const auto expected = Drive(runner.get(), ShortSequences(0));
  ASSERT_TRUE(expected.ok()) << expected.status();
  std::atomic<bool> done = false;
  CountingPacer pacer;
  std::thread builder([&] {
    const ScopedPacer installed(&pacer);
    for (int32_t cycle = 0; cycle < 20; ++cycle) {
      EXPECT_TRUE(
          runner->MergeAdapter(adapters_[cycle % adapters_.size()]).ok());
    }
    done = true;
  });
  do {
    ExpectDrives(runner.get(), 0, *expected);
  } while (!done);
  builder.join();
  EXPECT_GT(pacer.breaths, 20);
}

}  // namespace
}  // namespace descant
