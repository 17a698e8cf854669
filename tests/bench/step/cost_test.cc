// Against sums made by hand.
#include "tests/bench/step/cost.h"

#include <gtest/gtest.h>

#include "tests/bench/step/batches.h"

namespace descant::bench {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.num_layers = 2;
  config.hidden_size = 8;
  config.intermediate_size = 16;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 4;
  config.vocab_size = 100;
  return config;
}

TEST(CostTest, WeightsAndCacheOfADecode) {
  const ModelConfig config = SmallConfig();
  const SamplingParams sampling;
  const Batch batch = MakeBatch(3, 1, 10, 100, false, sampling);
  const StepCost cost = CostOf(config, 2, {}, batch);
  // q 8, k and v 4 each, from 8; two layers.
  EXPECT_EQ(cost.of(CpuPhase::kQkv).bytes, 2 * 2 * 8 * 16);
  EXPECT_EQ(cost.of(CpuPhase::kQkv).operations, 2 * 3 * 2 * 8 * 16);
  EXPECT_EQ(cost.of(CpuPhase::kOut).bytes, 2 * 2 * 8 * 8);
  EXPECT_EQ(cost.of(CpuPhase::kGateUp).bytes, 2 * 2 * 8 * 32);
  EXPECT_EQ(cost.of(CpuPhase::kDown).bytes, 2 * 2 * 16 * 8);
  EXPECT_EQ(cost.of(CpuPhase::kHead).bytes, 2 * 100 * 8);
  EXPECT_EQ(cost.of(CpuPhase::kShrink).bytes, 0);
  // 11 positions, k and v of 4, bf16, two layers, three sequences.
  EXPECT_EQ(cost.of(CpuPhase::kAttention).bytes, 3 * 2 * 11 * 2 * 4 * 2);
  EXPECT_EQ(cost.of(CpuPhase::kAttention).operations, 3 * 2 * 11 * 4 * 8);
  EXPECT_EQ(BaseValues(config),
            2 * (8 * 16 + 8 * 8 + 8 * 32 + 16 * 8) + 100 * 8);
}

TEST(CostTest, PrefillsSeeWhatIsBeforeThem) {
  ModelConfig config = SmallConfig();
  const SamplingParams sampling;
  const Batch batch = MakeBatch(1, 3, 5, 100, false, sampling);
  // Rows at 5, 6 and 7 see 6, 7 and 8 positions; the cache is read once.
  EXPECT_EQ(CostOf(config, 2, {}, batch).of(CpuPhase::kAttention).operations,
            2 * (6 + 7 + 8) * 4 * 8);
  EXPECT_EQ(CostOf(config, 2, {}, batch).of(CpuPhase::kAttention).bytes,
            2 * 8 * 2 * 4 * 2);
  config.windows = {4, 0};
  EXPECT_EQ(CostOf(config, 2, {}, batch).of(CpuPhase::kAttention).operations,
            (3 * 4 + 6 + 7 + 8) * 4 * 8);
  // From the first position that row 5 sees, 2, to 7; and all 8.
  EXPECT_EQ(CostOf(config, 2, {}, batch).of(CpuPhase::kAttention).bytes,
            (6 + 8) * 2 * 4 * 2);
}

TEST(CostTest, AdaptersAreReadOnceEach) {
  const ModelConfig config = SmallConfig();
  const SamplingParams sampling;
  const Batch batch = MakeBatch(2, 3, 0, 100, true, sampling);
  const StepCost narrow = CostOf(config, 2, {.rank = 4}, batch);
  // A of q and v, two layers, two adapters.
  EXPECT_EQ(narrow.of(CpuPhase::kShrink).bytes, 2 * 2 * (2 * 4 * 8) * 2);
  EXPECT_EQ(narrow.of(CpuPhase::kShrink).operations, 2 * 6 * 2 * (2 * 4 * 8));
  const StepCost base = CostOf(config, 2, {}, batch);
  EXPECT_EQ(narrow.of(CpuPhase::kQkv).bytes - base.of(CpuPhase::kQkv).bytes,
            2 * 2 * 4 * (8 + 4) * 2);
  EXPECT_EQ(narrow.of(CpuPhase::kDown).bytes, base.of(CpuPhase::kDown).bytes);
  const StepCost wide =
      CostOf(config, 2, {.rank = 4, .all_linear = true}, batch);
  EXPECT_EQ(wide.of(CpuPhase::kGateUp).bytes - base.of(CpuPhase::kGateUp).bytes,
            2 * 2 * 4 * (16 + 16) * 2);
  EXPECT_EQ(wide.of(CpuPhase::kShrink).bytes,
            2 * 2 * 4 * (3 * 8 + 8 + 2 * 8 + 16) * 2);
}

TEST(CostTest, BoundIsTheSlowerOfReadingAndComputing) {
  EXPECT_EQ(
      BoundMs({.bytes = 10, .operations = 1}, {.read = 100, .compute = 1}),
      1000);
  EXPECT_EQ(BoundMs({.bytes = 10, .operations = 1}, {.read = 5, .compute = 1}),
            2000);
}

}  // namespace
}  // namespace descant::bench
