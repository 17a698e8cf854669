// The self-test with the CUDA runner and its kernels, emulated: it passes where
// all is well, and names what is not.
#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/model/cuda_runner.h"
#include "runtime/model/cuda_self_test.h"
#include "tests/runtime/model/host_device.h"
#include "tests/runtime/model/self_test_layers.h"

namespace descant {
namespace {

using kernels::CudaKernels;
using kernels::HalfType;

RunnerFactory CudaRunners(HalfType half) {
  return [half](std::shared_ptr<const Model> model,
                const RunnerOptions& options)
             -> absl::StatusOr<std::unique_ptr<Runner>> {
    return CudaRunner::Create(std::move(model), options, MakeHostDevice(half));
  };
}

class SelfTestOfCudaModels : public testing::TestWithParam<const char*> {};

TEST_P(SelfTestOfCudaModels, EveryLayerIsWithinItsBound) {
  const auto model = LoadTinyModel(GetParam());
  ASSERT_NE(nullptr, model);
  const auto checks =
      ChecksOfLayers(model, WeightType::kBf16, CudaRunners(HalfType::kBf16));
  EXPECT_EQ(checks.size(), size_t(model->config.num_layers) + 1);
  ExpectAllOk(checks);
}

INSTANTIATE_TEST_SUITE_P(All, SelfTestOfCudaModels,
                         testing::ValuesIn(kGoldenModels),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(SelfTestCudaTest, NamesTheLayerWhoseWeightDiffers) {
  const auto model = LoadTinyModel("tiny_llama");
  ASSERT_NE(nullptr, model);
  for (const WeightKind kind : {WeightKind::kQuery, WeightKind::kDown}) {
    const auto checks = ChecksOfLayers(
        model, WeightType::kBf16,
        WithExchangedRows(CudaRunners(HalfType::kBf16), "layer 1", kind));
    EXPECT_EQ(FailedOf(checks), std::vector<std::string>{"layer 1"});
  }
}

// The host's memory as a device, with other kernels.
class ChangedDevice final : public Device {
 public:
  explicit ChangedDevice(HalfType half) : inner_(MakeHostDevice(half)) {
    table = inner_->kernels();
  }

  std::string Describe() const override { return inner_->Describe(); }
  HalfType half() const override { return inner_->half(); }
  const CudaKernels& kernels() const override { return table; }
  void* stream() const override { return inner_->stream(); }
  absl::StatusOr<uint64_t> FreeBytes() const override {
    return inner_->FreeBytes();
  }
  absl::StatusOr<DeviceMemory> Allocate(uint64_t bytes) override {
    return inner_->Allocate(bytes);
  }
  absl::StatusOr<DeviceMemory> AllocateHost(uint64_t bytes) const override {
    return inner_->AllocateHost(bytes);
  }
  absl::Status CopyToDevice(void* to, const void* from,
                            uint64_t bytes) override {
    return inner_->CopyToDevice(to, from, bytes);
  }
  absl::Status CopyToHost(void* to, const void* from, uint64_t bytes) override {
    return inner_->CopyToHost(to, from, bytes);
  }
  absl::Status Synchronize() override { return inner_->Synchronize(); }
  absl::Status Load(absl::Span<const DeviceCopy> copies) override {
    return inner_->Load(copies);
  }
  absl::StatusOr<std::unique_ptr<DeviceGraph>> Capture(
      const std::function<absl::Status()>& launches) override {
    return inner_->Capture(launches);
  }

  bool HasChunkAttention(int32_t head_dim) const override {
    return inner_->HasChunkAttention(head_dim);
  }
  absl::Status AttendChunks(const ChunkAttention& attention) override {
    return attends ? inner_->AttendChunks(attention) : absl::OkStatus();
  }

  CudaKernels table;
  bool multiplies = true;
  bool attends = true;

 protected:
  absl::Status MultiplyNow(const MatrixProduct& product) override {
    return multiplies ? inner_->Multiply(product) : absl::OkStatus();
  }

 private:
  const std::unique_ptr<Device> inner_;
};

std::vector<SelfTestCheck> ChecksOf(Device* device) {
  std::vector<SelfTestCheck> checks;
  TestCudaKernels(device,
                  [&](const SelfTestCheck& check) { checks.push_back(check); });
  return checks;
}

TEST(SelfTestCudaTest, EveryKernelIsWithinItsBound) {
  for (const HalfType half : {HalfType::kBf16, HalfType::kFp16}) {
    const auto device = MakeHostDevice(half);
    const auto checks = ChecksOf(device.get());
    // A kernel without a check is none that a start can rely on.
    EXPECT_EQ(checks.size(), sizeof(CudaKernels) / sizeof(void*) + 2);
    ExpectAllOk(checks);
  }
}

// Each kernel in turn does nothing, and then leaves out a row, a window or
// whatever else it has a number of.
TEST(SelfTestCudaTest, NamesTheKernelThatIsWrong) {
  using Names = std::vector<std::string>;
  const auto expect_found = [](auto kernel, auto wrong, const char* name) {
    ChangedDevice device(HalfType::kBf16);
    device.table.*kernel = wrong;
    EXPECT_EQ(FailedOf(ChecksOf(&device)), Names{name});
  };
#define EXPECT_FOUND(kernel, ArgsType, change)                          \
  expect_found(                                                         \
      &CudaKernels::kernel,                                             \
      [](const kernels::ArgsType&) { return absl::OkStatus(); },        \
      "kernel " #kernel);                                               \
  expect_found(                                                         \
      &CudaKernels::kernel,                                             \
      [](const kernels::ArgsType& given) {                              \
        kernels::ArgsType args = given;                                 \
        change;                                                         \
        return MakeHostDevice(HalfType::kBf16)->kernels().kernel(args); \
      },                                                                \
      "kernel " #kernel)
  EXPECT_FOUND(route, RouteArgs, --args.rows);
  EXPECT_FOUND(shrink, ShrinkArgs, args.in -= 8);
  EXPECT_FOUND(expand, ExpandArgs, args.row_weights = nullptr);
  EXPECT_FOUND(embed, EmbedArgs, args.scale *= 1.001f);
  EXPECT_FOUND(norm, NormArgs, args.eps = 0.1f);
  EXPECT_FOUND(rope, RopeArgs, --args.rotary_half);
  EXPECT_FOUND(attention, CudaAttentionArgs, args.scale *= 1.1f);
  EXPECT_FOUND(gather_kv, GatherKvArgs, --args.tokens);
  EXPECT_FOUND(activate, ActivateArgs, --args.rows);
  EXPECT_FOUND(clear_blocks, ClearBlocksArgs, --args.count);
  EXPECT_FOUND(widen_logits, WidenLogitsArgs, args.cap = 0);
  EXPECT_FOUND(sample, SampleArgs, args.vocab -= 20);
  EXPECT_FOUND(accept_drafts, AcceptArgs, --args.count);
#undef EXPECT_FOUND
  ChangedDevice device(HalfType::kBf16);
  device.multiplies = false;
  EXPECT_EQ(FailedOf(ChecksOf(&device)), Names{"library product"});
  device.multiplies = true;
  device.attends = false;
  EXPECT_EQ(FailedOf(ChecksOf(&device)), Names{"library attention"});
}

TEST(SelfTestCudaTest, AKernelThatCannotBeLaunchedIsAFailure) {
  ChangedDevice device(HalfType::kBf16);
  device.table.rope = [](const kernels::RopeArgs&) -> absl::Status {
    return absl::InternalError("no kernel image");
  };
  const auto checks = ChecksOf(&device);
  ASSERT_EQ(FailedOf(checks), std::vector<std::string>{"kernel rope"});
  for (const SelfTestCheck& check : checks) {
    if (check.ok()) continue;
    EXPECT_EQ(check.status.message(), "no kernel image");
  }
}

}  // namespace
}  // namespace descant
