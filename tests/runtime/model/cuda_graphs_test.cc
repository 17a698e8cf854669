#include "runtime/model/cuda_graphs.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>

namespace descant {
namespace {

// Counts those that are there.
class CountedGraph final : public DeviceGraph {
 public:
  explicit CountedGraph(int* count) : count_(count) { ++*count_; }
  ~CountedGraph() override { --*count_; }
  absl::Status Replay() override { return absl::OkStatus(); }

 private:
  int* const count_;
};

class CudaGraphsTest : public testing::Test {
 protected:
  // Nobody looks inside: an owner is all there is to them.
  static CudaGraphs::Weights MakeWeights() {
    return CudaGraphs::Weights(std::make_shared<int>(), nullptr);
  }
  static CudaStepShape ShapeOf(int32_t index) {
    CudaStepShape shape;
    shape.rows = 1;
    shape.attention_parts = index;
    return shape;
  }
  CudaGraphs::Pieces MakePieces() {
    CudaGraphs::Pieces pieces;
    pieces.push_back(std::make_unique<CountedGraph>(&count_));
    return pieces;
  }
  // So many shapes come twice, each captured where it is worth it.
  void Meet(const CudaGraphs::Weights& weights, int32_t shapes) {
    for (int32_t i = 0; i < 2 * shapes; ++i) {
      const CudaStepShape shape = ShapeOf(i / 2);
      if (!graphs_.IsWorthCapturing(weights, shape)) continue;
      EXPECT_EQ(graphs_.Find(weights, shape), nullptr);
      graphs_.Keep(weights, shape, MakePieces());
    }
  }

  int count_ = 0;
  CudaGraphs graphs_;
};

TEST_F(CudaGraphsTest, AShapeIsCapturedWhenItComesAgainWithTheSameWeights) {
  const auto base = MakeWeights();
  const auto merged = MakeWeights();
  EXPECT_FALSE(graphs_.IsWorthCapturing(base, ShapeOf(1)));
  EXPECT_FALSE(graphs_.IsWorthCapturing(merged, ShapeOf(1)));
  EXPECT_TRUE(graphs_.IsWorthCapturing(base, ShapeOf(1)));
  const CudaGraphs::Pieces* kept = graphs_.Keep(base, ShapeOf(1), MakePieces());
  EXPECT_EQ(graphs_.Find(base, ShapeOf(1)), kept);
  EXPECT_EQ(graphs_.Find(base, ShapeOf(2)), nullptr);
  EXPECT_EQ(graphs_.Find(merged, ShapeOf(1)), nullptr);
}

TEST_F(CudaGraphsTest, GraphsGoWithTheirWeights) {
  const auto base = MakeWeights();
  auto merged = MakeWeights();
  Meet(base, 3);
  Meet(merged, 5);
  EXPECT_EQ(count_, 8);
  graphs_.DropDead();
  EXPECT_EQ(count_, 8);
  merged.reset();
  graphs_.DropDead();
  EXPECT_EQ(count_, 3);
  EXPECT_EQ(graphs_.size(), 3u);
  EXPECT_NE(graphs_.Find(base, ShapeOf(0)), nullptr);
}

// Whatever address the next ones have.
TEST_F(CudaGraphsTest, WeightsThatComeLaterFindNoneOfThoseBefore) {
  for (int32_t i = 0; i < 1000; ++i) {
    const auto merged = MakeWeights();
    EXPECT_EQ(graphs_.Find(merged, ShapeOf(0)), nullptr);
    Meet(merged, 1);
    EXPECT_NE(graphs_.Find(merged, ShapeOf(0)), nullptr);
    if (i % 7 == 0) graphs_.DropDead();
  }
}

TEST_F(CudaGraphsTest, TheNumberIsBoundAndTheBaseLeavesRoom) {
  const auto base = MakeWeights();
  Meet(base, 1000);
  const size_t of_base = graphs_.size();
  auto merged = MakeWeights();
  Meet(merged, 1000);
  const size_t of_both = graphs_.size();
  EXPECT_GT(of_both, of_base);
  EXPECT_LT(of_both, 2 * of_base);
  const auto another = MakeWeights();
  Meet(another, 1000);
  EXPECT_EQ(graphs_.size(), of_both);
  merged.reset();
  graphs_.DropDead();
  Meet(another, 1000);
  EXPECT_EQ(graphs_.size(), of_both);
  EXPECT_NE(graphs_.Find(another, ShapeOf(0)), nullptr);
}

}  // namespace
}  // namespace descant
