// LoRA by rows and by columns: which steps go by rows, and that both give the
// same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/model/cpu_runner_plan.h"
#include "runtime/model/cpu_runner_step.h"
#include "tests/runtime/model/cpu_runner_fixture.h"
#include "tests/runtime/model/synthetic_model.h"

namespace descant {
namespace {

// A plan of `rows` rows with these segments.
CpuPlan PlanOf(int32_t rows,
               const std::vector<std::pair<int32_t, int32_t>>& segments) {
  CpuPlan plan;
  plan.rows.resize(rows);
  for (const auto& [begin, end] : segments) {
    plan.segments.push_back({begin, end, 1.0f, nullptr, nullptr, 0});
  }
  return plan;
}

TEST(FillRowItemsTest, CoversEveryRowOnce) {
  CpuPlan plan = PlanOf(40, {{9, 10}, {10, 18}, {20, 21}, {39, 40}});
  FillRowItems(4, 64, &plan);
  int32_t row = 0;
  std::vector<int32_t> segments;
  for (const PlanRowItem& item : plan.row_items) {
    EXPECT_EQ(row, item.row_begin);
    EXPECT_LT(item.row_begin, item.row_end);
    row = item.row_end;
    if (item.segment < 0) continue;
    segments.push_back(item.segment);
    EXPECT_EQ(plan.segments[item.segment].row_begin, item.row_begin);
    EXPECT_EQ(plan.segments[item.segment].row_end, item.row_end);
  }
  EXPECT_EQ(40, row);
  EXPECT_EQ((std::vector<int32_t>{0, 1, 2, 3}), segments);
}

TEST(FillRowItemsTest, GoesByColumnsWhereRowsDoNotPay) {
  const std::vector<std::pair<int32_t, int32_t>> four = {
      {0, 1}, {1, 2}, {2, 3}, {3, 4}};
  CpuPlan plan = PlanOf(4, four);
  FillRowItems(4, 4, &plan);
  EXPECT_EQ(4u, plan.row_items.size());
  // Too few segments; too many rows; a long segment; rows under two adapters.
  FillRowItems(5, 4, &plan);
  EXPECT_TRUE(plan.row_items.empty());
  FillRowItems(4, 3, &plan);
  EXPECT_TRUE(plan.row_items.empty());
  plan = PlanOf(40, {{0, 1}, {1, 2}, {2, 3}, {3, 40}});
  FillRowItems(4, 64, &plan);
  EXPECT_TRUE(plan.row_items.empty());
  plan = PlanOf(4, {{0, 1}, {1, 3}, {2, 3}, {3, 4}});
  FillRowItems(4, 64, &plan);
  EXPECT_TRUE(plan.row_items.empty());
}

class CpuRunnerRowsTest
    : public CpuRunnerFixture,
      public testing::WithParamInterface<
          std::tuple<std::string, WeightType, AdapterWeightType>> {};

// Ten sequences, three of them without an adapter or with one that another
// has too: in chunks of 3 their prompts go by rows, several a segment, and so
// do their decodes. Alone, and in long chunks, they go by columns.
TEST_P(CpuRunnerRowsTest, RowsAndColumnsHaveTheSameBits) {
  ModelConfig config = *SyntheticConfig(std::get<0>(GetParam()), /*layers=*/2);
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.vocab_size = 500;
  const int32_t group = config.num_heads / config.num_kv_heads;
  config.num_kv_heads = std::min(config.num_kv_heads, 2);
  config.num_heads = group * config.num_kv_heads;
  model_ = MakeSyntheticModel(config, 3);
  weights_ = std::get<1>(GetParam());
  adapter_weights_ = std::get<2>(GetParam());
  constexpr int32_t kAdapters = 7;
  constexpr int32_t kSequences = 10;
  constexpr int32_t kPrompt = 25;
  for (int32_t i = 0; i < kAdapters; ++i) {
    // Some change few modules, so that sites differ in who has work.
    adapters_.push_back(
        MakeSyntheticAdapter(model_->base_shape, 3 + 5 * i, i % 3 != 1, i));
  }
  std::mt19937 random(17);
  std::vector<DrivenSequence> sequences(kSequences);
  for (int32_t i = 0; i < kSequences; ++i) {
    sequences[i].prompt.resize(kPrompt - i % 3);
    for (int32_t& token : sequences[i].prompt) {
      token = static_cast<int32_t>(random() % config.vocab_size);
    }
    sequences[i].slot = i < kAdapters ? i : (i == kAdapters ? 2 : kNoSlot);
    sequences[i].sampling.temperature = 0;
    sequences[i].sampling.max_tokens = 5;
    sequences[i].sampling.top_logprobs = 20;
  }
  const auto runner = MakeRunner(kSequences, kPrompt + 8, 2);
  ASSERT_NE(nullptr, runner);
  DriverOptions chunks;
  chunks.chunk = 3;
  const auto short_chunks = Drive(runner.get(), sequences, chunks);
  ASSERT_TRUE(short_chunks.ok()) << short_chunks.status();
  const auto long_chunks = Drive(runner.get(), sequences);
  ASSERT_TRUE(long_chunks.ok()) << long_chunks.status();
  for (int32_t i = 0; i < kSequences; ++i) {
    const std::string what = "sequence " + std::to_string(i);
    const auto alone = Drive(runner.get(), {sequences[i]});
    ASSERT_TRUE(alone.ok()) << alone.status();
    ExpectSame((*alone)[0], (*short_chunks)[i], what + " in short chunks");
    ExpectSame((*alone)[0], (*long_chunks)[i], what + " in long chunks");
  }
}

std::string NameOf(
    const testing::TestParamInfo<CpuRunnerRowsTest::ParamType>& info) {
  std::string name =
      std::get<0>(info.param) + "_" +
      std::string(WeightTypeName(std::get<1>(info.param))) + "_adapters_" +
      std::string(AdapterWeightTypeName(std::get<2>(info.param)));
  for (char& c : name) {
    if (!std::isalnum(c)) c = '_';
  }
  return name;
}

// Fused modules, no gate, post norms, biases and layer norms are among them.
INSTANTIATE_TEST_SUITE_P(
    All, CpuRunnerRowsTest,
    testing::Combine(testing::ValuesIn(SyntheticShapes()),
                     testing::Values(WeightType::kBf16, WeightType::kInt8,
                                     WeightType::kInt4),
                     testing::Values(AdapterWeightType::kBf16,
                                     AdapterWeightType::kInt8)),
    &NameOf);

}  // namespace
}  // namespace descant
