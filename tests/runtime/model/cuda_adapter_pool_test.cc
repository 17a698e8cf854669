#include "runtime/model/cuda_adapter_pool.h"

#include <gtest/gtest.h>

#include <memory>

#include "runtime/model/model_config.h"
#include "tests/runtime/model/host_device.h"
#include "tests/runtime/model/synthetic_model.h"

namespace descant {
namespace {

constexpr int32_t kSlots = 3;

class CudaAdapterPoolTest : public testing::Test {
 protected:
  CudaAdapterPoolTest()
      : config_(*SyntheticConfig("gpt2", 2)),
        model_(MakeSyntheticModel(config_, 1)),
        device_(MakeHostDevice(kernels::HalfType::kBf16)) {}

  std::shared_ptr<const Adapter> Make(int32_t rank) {
    return MakeSyntheticAdapter(model_->base_shape, rank, /*all_modules=*/true,
                                7);
  }
  std::unique_ptr<CudaAdapterPool> MakePool(uint64_t bytes) {
    auto pool = CudaAdapterPool::Create(config_, kSlots, bytes, device_.get());
    EXPECT_TRUE(pool.ok()) << pool.status();
    return *std::move(pool);
  }

  // What kernels find there.
  kernels::LoraSlot SlotOnDevice(const CudaAdapterPool& pool, int32_t layer,
                                 LoraSite site, int32_t slot) {
    kernels::LoraSlot copy;
    EXPECT_TRUE(device_
                    ->CopyToHost(&copy, pool.Table(layer, site) + slot,
                                 sizeof(kernels::LoraSlot))
                    .ok());
    EXPECT_TRUE(device_->Synchronize().ok());
    return copy;
  }

  const ModelConfig config_;
  const std::shared_ptr<const Model> model_;
  const std::unique_ptr<Device> device_;
};

TEST_F(CudaAdapterPoolTest, TablesPointToTheAdapterOfASlot) {
  const auto pool = MakePool(uint64_t{64} << 20);
  const auto adapter = Make(5);
  const auto image = pool->Pack(*adapter);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ((*image)->bytes(), pool->Bytes(*adapter));
  ASSERT_TRUE(pool->Load(1, **image).ok());
  EXPECT_EQ(pool->memory().used, pool->Bytes(*adapter));
  EXPECT_EQ(pool->Find(0), nullptr);
  ASSERT_NE(pool->Find(1), nullptr);
  EXPECT_EQ(pool->Find(1)->site_mask, 15u);
  for (int32_t layer = 0; layer < 2; ++layer) {
    for (const LoraSite site :
         {LoraSite::kQkv, LoraSite::kOut, LoraSite::kGateUp, LoraSite::kDown}) {
      const kernels::LoraSlot slot = SlotOnDevice(*pool, layer, site, 1);
      EXPECT_EQ(slot.rank % kernels::kLoraRankPad, 0);
      EXPECT_GE(slot.rank, 8);
      EXPECT_NE(slot.a, nullptr);
      EXPECT_EQ(SlotOnDevice(*pool, layer, site, 0).rank, 0);
    }
    // GPT-2's q, k and v are one module: one A for the three.
    const kernels::LoraSlot qkv = SlotOnDevice(*pool, layer, LoraSite::kQkv, 1);
    EXPECT_EQ(qkv.rank, 8);
    for (const kernels::LoraSlice& slice : qkv.slices) {
      EXPECT_EQ(slice.rank, 8);
      EXPECT_EQ(slice.rank_begin, 0);
    }
  }
  pool->Unload(1);
  EXPECT_EQ(pool->Find(1), nullptr);
  EXPECT_EQ(pool->memory().used, 0u);
}

TEST_F(CudaAdapterPoolTest, AFullArenaRefusesAndKeepsTheOthers) {
  const auto adapter = Make(16);
  uint64_t bytes = MakePool(1)->Bytes(*adapter);
  const auto pool = MakePool(bytes + bytes / 2);
  const auto image = pool->Pack(*adapter);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_TRUE(pool->Load(0, **image).ok());
  EXPECT_EQ(pool->Load(2, **image).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(pool->Find(2), nullptr);
  ASSERT_NE(pool->Find(0), nullptr);
  EXPECT_EQ(pool->memory().used, bytes);
  // In place of what was there.
  EXPECT_TRUE(pool->Load(0, **image).ok());
}

TEST_F(CudaAdapterPoolTest, RanksThatTheKernelsHaveNoRoomFor) {
  const auto pool = MakePool(1);
  EXPECT_TRUE(pool->Pack(*Make(kernels::kLoraMaxRank)).ok());
  EXPECT_EQ(pool->Pack(*Make(kernels::kLoraMaxRank + 1)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace descant
