#include "runtime/core/prefix_cache.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr AdapterKeyView kAcme = {"acme", "sha256:1"};

// Blocks' worth of tokens, each block of one number.
std::vector<int32_t> Tokens(const std::vector<int32_t>& blocks) {
  std::vector<int32_t> tokens;
  for (const int32_t block : blocks) {
    tokens.insert(tokens.end(), kBlockSize, block);
  }
  return tokens;
}

class PrefixCacheTest : public ::testing::Test {
 protected:
  ~PrefixCacheTest() override {
    held_.clear();
    cache_.CheckInvariants();
    blocks_.CheckInvariants();
  }

  // A sequence computes these blocks, after what it finds, and ends.
  std::vector<int32_t> Compute(AdapterKeyView root,
                               const std::vector<int32_t>& blocks) {
    std::vector<Block> own;
    const std::vector<int32_t> tokens = Tokens(blocks);
    PrefixCache::Cursor at =
        cache_.Match(root, tokens, static_cast<int32_t>(blocks.size()), &own);
    while (own.size() < blocks.size()) {
      auto block = blocks_.Allocate();
      if (!block.has_value()) {
        EXPECT_TRUE(cache_.Evict());
        continue;
      }
      own.push_back(std::move(*block));
    }
    for (size_t i = at.depth; i < blocks.size() && !at.lost; ++i) {
      at = cache_.Add(at, root,
                      absl::MakeConstSpan(tokens).subspan(i * kBlockSize,
                                                          size_t{kBlockSize}),
                      own[i], share_);
    }
    cache_.CheckInvariants();
    std::vector<int32_t> ids;
    for (const Block& block : own) ids.push_back(block.id());
    while (!own.empty()) own.pop_back();
    cache_.Trim();
    return ids;
  }

  // What of them is known; it is held until the test ends.
  std::vector<int32_t> Find(AdapterKeyView root,
                            const std::vector<int32_t>& blocks,
                            int32_t most = 100) {
    const size_t before = held_.size();
    cache_.Match(root, Tokens(blocks), most, &held_);
    std::vector<int32_t> ids;
    for (size_t i = before; i < held_.size(); ++i) ids.push_back(held_[i].id());
    return ids;
  }

  BlockAllocator blocks_{6};
  PrefixCache cache_{&blocks_};
  std::vector<Block> held_;
  PrefixCache::Share share_;
};

TEST_F(PrefixCacheTest, FindsTheLongestKnownBeginning) {
  const std::vector<int32_t> ids = Compute(kAcme, {1, 2, 3});
  EXPECT_EQ(blocks_.used(), 0);
  EXPECT_EQ(blocks_.idle(), 3);
  EXPECT_EQ(blocks_.available(), 6);
  EXPECT_EQ(Find(kAcme, {1, 2, 3, 4}), ids);
  EXPECT_THAT(Find(kAcme, {1, 2, 4}), ElementsAre(ids[0], ids[1]));
  EXPECT_THAT(Find(kAcme, {1, 2, 3}, 1), ElementsAre(ids[0]));
  EXPECT_THAT(Find(kAcme, {2, 3}), IsEmpty());
  EXPECT_EQ(blocks_.used(), 3);
  EXPECT_EQ(blocks_.idle(), 0);
}

TEST_F(PrefixCacheTest, PartOfABlockIsNoBlock) {
  Compute(kAcme, {1});
  std::vector<int32_t> tokens = Tokens({1});
  tokens.pop_back();
  cache_.Match(kAcme, tokens, 5, &held_);
  EXPECT_THAT(held_, IsEmpty());
}

// P6: no hit crosses tenants, nor adapters; nor does a mix of the two names.
TEST_F(PrefixCacheTest, OtherTenantsAndAdaptersFindNothing) {
  Compute(kAcme, {1, 2});
  EXPECT_THAT(Find({"globex", "sha256:1"}, {1, 2}), IsEmpty());
  EXPECT_THAT(Find({"acme", "sha256:2"}, {1, 2}), IsEmpty());
  EXPECT_THAT(Find({"acme", ""}, {1, 2}), IsEmpty());
  EXPECT_THAT(Find({"", "sha256:1"}, {1, 2}), IsEmpty());
  EXPECT_THAT(Find({"acmes", "ha256:1"}, {1, 2}), IsEmpty());
  EXPECT_EQ(Find(kAcme, {1, 2}).size(), 2u);
}

TEST_F(PrefixCacheTest, TheLongestUnusedGoesFirstItsEndBeforeItsBeginning) {
  const auto first = Compute(kAcme, {1, 2});
  const auto second = Compute(kAcme, {3, 4});
  Compute(kAcme, {1});  // used again
  ASSERT_TRUE(cache_.Evict());
  EXPECT_EQ(blocks_.free(), 3);
  EXPECT_EQ(Find(kAcme, {1, 2}).size(), 1u) << "its second block was older";
  held_.clear();
  ASSERT_TRUE(cache_.Evict());
  EXPECT_EQ(Find(kAcme, {3, 4}).size(), 1u);
  held_.clear();
}

TEST_F(PrefixCacheTest, WhatIsHeldIsNotEvicted) {
  Compute(kAcme, {1, 2});
  Compute(kAcme, {3});
  EXPECT_EQ(Find(kAcme, {1, 2}).size(), 2u);
  EXPECT_TRUE(cache_.Evict());
  EXPECT_FALSE(cache_.Evict());
  EXPECT_EQ(Find(kAcme, {1, 2}).size(), 2u);
  EXPECT_THAT(Find(kAcme, {3}), IsEmpty());
}

TEST_F(PrefixCacheTest, MemoryIsTakenFromWhatIsOldest) {
  for (int32_t i = 0; i < 20; ++i) Compute(kAcme, {i, i + 100});
  EXPECT_EQ(blocks_.available(), 6);
  EXPECT_EQ(Find(kAcme, {19, 119}).size(), 2u);
  EXPECT_EQ(Find(kAcme, {17, 117}).size(), 2u);
  EXPECT_THAT(Find(kAcme, {16, 116}), IsEmpty());
}

// Two sequences compute the same at the same time: what the second one adds
// behind that is found behind the first one's.
TEST_F(PrefixCacheTest, TwinsShareOneBranch) {
  std::vector<Block> one;
  std::vector<Block> two;
  for (int i = 0; i < 2; ++i) one.push_back(*blocks_.Allocate());
  for (int i = 0; i < 2; ++i) two.push_back(*blocks_.Allocate());
  const std::vector<int32_t> a = Tokens({1});
  EXPECT_EQ(cache_.Add({}, kAcme, a, one[0], share_).node, one[0].id());
  PrefixCache::Cursor at_two = cache_.Add({}, kAcme, a, two[0], share_);
  EXPECT_EQ(at_two.node, one[0].id());
  EXPECT_FALSE(two[0].cached());
  at_two = cache_.Add(at_two, kAcme, Tokens({2}), two[1], share_);
  EXPECT_FALSE(at_two.lost);
  EXPECT_THAT(Find(kAcme, {1, 2}), ElementsAre(one[0].id(), two[1].id()));
  held_.clear();
  // The first one's is evicted while the second one runs: what is behind it
  // can't be found any more, and nothing is added to it.
  one.clear();
  ASSERT_TRUE(cache_.Evict());
  cache_.CheckInvariants();
  EXPECT_FALSE(two[1].cached());
  EXPECT_THAT(Find(kAcme, {1, 2}), IsEmpty());
  two.push_back(*blocks_.Allocate());
  EXPECT_TRUE(cache_.Add(at_two, kAcme, Tokens({3}), two[2], share_).lost);
  while (!two.empty()) two.pop_back();
  EXPECT_EQ(blocks_.free(), 6);
}

constexpr AdapterKeyView kGlobex = {"globex", "sha256:9"};

// One tenant's scan takes the scanner's own blocks, not what others left.
TEST_F(PrefixCacheTest, AScanFlushesNobodyElse) {
  Compute(kGlobex, {1, 2});
  for (int32_t i = 0; i < 50; ++i) Compute(kAcme, {i + 10, i + 100});
  EXPECT_EQ(Find(kGlobex, {1, 2}).size(), 2u);
  EXPECT_EQ(Find(kAcme, {59, 149}).size(), 2u);
}

// Nothing is reserved: who is alone has all, and gives back what is beyond an
// equal share of those that nobody holds when another one comes. (One of six is
// held while the other computes it.)
TEST_F(PrefixCacheTest, TenantsGrowToTheirShares) {
  for (int32_t i = 0; i < 6; ++i) Compute(kAcme, {i});
  EXPECT_EQ(blocks_.idle_blocks().size(blocks_.owner(0)), 6);
  for (int32_t i = 0; i < 20; ++i) {
    Compute(kGlobex, {i});
    EXPECT_GE(blocks_.idle_blocks().size(0), 2);
  }
  EXPECT_EQ(Find(kAcme, {4}).size() + Find(kAcme, {5}).size(), 2u);
  EXPECT_THAT(Find(kAcme, {2}), IsEmpty());
}

TEST_F(PrefixCacheTest, AWeightIsAShare) {
  share_.weight = 2;
  for (int32_t i = 0; i < 20; ++i) Compute(kAcme, {i});
  share_.weight = 1;
  for (int32_t i = 0; i < 20; ++i) Compute(kGlobex, {i});
  int32_t found = 0;
  for (int32_t i = 0; i < 20; ++i) {
    found += static_cast<int32_t>(Find(kAcme, {i}).size());
  }
  EXPECT_GE(found, 3) << "two thirds of the five that nobody holds";
  EXPECT_LE(found, 4);
}

// Also with free blocks.
TEST_F(PrefixCacheTest, AnExplicitLimitHoldsAlways) {
  share_.most = 2;
  Compute(kAcme, {1, 2, 3});
  EXPECT_EQ(blocks_.idle(), 2);
  EXPECT_EQ(blocks_.free(), 4);
  EXPECT_EQ(Find(kAcme, {1, 2, 3}).size(), 2u) << "its beginning stays";
  while (!held_.empty()) held_.pop_back();
  Compute(kAcme, {4});
  EXPECT_EQ(blocks_.idle(), 2);
  EXPECT_EQ(Find(kAcme, {4}).size(), 1u);
  share_.most = 0;
  Compute(kGlobex, {1, 2, 3});
  EXPECT_EQ(Find(kGlobex, {1, 2, 3}).size(), 3u);
}

}  // namespace
}  // namespace descant
