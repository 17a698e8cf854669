#include "runtime/core/block_allocator.h"

#include <set>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(BlockAllocator, HandsOutEveryIdOnceAndThenNone) {
  BlockAllocator allocator(5);
  std::vector<Block> blocks;
  std::set<int32_t> ids;
  while (auto block = allocator.Allocate()) {
    ids.insert(block->id());
    blocks.push_back(std::move(*block));
    allocator.CheckInvariants();
  }
  EXPECT_THAT(ids, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(allocator.free(), 0);
  EXPECT_EQ(allocator.used(), 5);
  blocks.clear();
  EXPECT_EQ(allocator.free(), 5);
  allocator.CheckInvariants();
}

TEST(BlockAllocator, TheBlockReleasedLastComesFirst) {
  BlockAllocator allocator(4);
  Block first = *allocator.Allocate();
  Block second = *allocator.Allocate();
  const int32_t id = first.id();
  { const Block gone = std::move(first); }
  EXPECT_EQ(allocator.Allocate()->id(), id);
}

TEST(BlockAllocator, MovingKeepsOneOwner) {
  BlockAllocator allocator(3);
  Block a = *allocator.Allocate();
  Block b = *allocator.Allocate();
  const int32_t id = a.id();
  b = std::move(a);
  EXPECT_EQ(allocator.used(), 1);
  EXPECT_EQ(b.id(), id);
  EXPECT_TRUE(a.empty());
  b = Block();
  EXPECT_EQ(allocator.used(), 0);
  allocator.CheckInvariants();
}

TEST(BlockAllocator, TaintedBlocksStayOutUntilReturned) {
  BlockAllocator allocator(2);
  int32_t tainted = -1;
  {
    Block block = *allocator.Allocate();
    tainted = block.id();
    block.Taint();
    EXPECT_THAT(allocator.tainted(), IsEmpty());
  }
  EXPECT_THAT(allocator.tainted(), ElementsAre(tainted));
  EXPECT_EQ(allocator.free(), 1);
  allocator.CheckInvariants();
  const Block other = *allocator.Allocate();
  EXPECT_NE(other.id(), tainted);
  EXPECT_FALSE(allocator.Allocate().has_value());
  allocator.ReturnTainted();
  EXPECT_EQ(allocator.Allocate()->id(), tainted);
  // Tainted once is not tainted for ever.
  EXPECT_THAT(allocator.tainted(), IsEmpty());
  allocator.CheckInvariants();
}

TEST(BlockAllocatorTest, TheLastHoldGivesABlockBack) {
  BlockAllocator allocator(2);
  std::optional<Block> first = allocator.Allocate();
  const int32_t id = first->id();
  EXPECT_FALSE(first->shared());
  Block second = first->Share();
  EXPECT_TRUE(first->shared() && second.shared());
  EXPECT_EQ(second.id(), id);
  EXPECT_EQ(allocator.used(), 1);
  EXPECT_EQ(allocator.holds(id), 2);
  first.reset();
  allocator.CheckInvariants();
  EXPECT_FALSE(second.shared());
  EXPECT_EQ(allocator.used(), 1);
  second = *allocator.Allocate();
  EXPECT_EQ(allocator.used(), 1);
  EXPECT_EQ(allocator.holds(id), 0);
  allocator.CheckInvariants();
}

TEST(BlockAllocatorTest, ATaintOutlastsOtherHolds) {
  BlockAllocator allocator(1);
  {
    Block first = *allocator.Allocate();
    const Block second = first.Share();
    first.Taint();
    first = Block();
    EXPECT_THAT(allocator.tainted(), IsEmpty());
  }
  EXPECT_THAT(allocator.tainted(), testing::SizeIs(1));
  EXPECT_FALSE(allocator.Allocate().has_value());
  allocator.CheckInvariants();
}

TEST(BlockAllocatorDeathTest, OutlivesItsBlocks) {
  EXPECT_DEATH(
      {
        Block kept;
        BlockAllocator allocator(1);
        kept = *allocator.Allocate();
      },
      "check failed");
}

}  // namespace
}  // namespace descant
