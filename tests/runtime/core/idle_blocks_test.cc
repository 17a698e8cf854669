#include "runtime/core/idle_blocks.h"

#include <cstdio>
#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace descant {
namespace {

TEST(IdleBlocks, OneOwnerHasPlainLru) {
  IdleBlocks idle(4);
  EXPECT_EQ(idle.next(), -1);
  idle.SetOwner(0, 1, 0);
  for (const int32_t id : {2, 0, 3}) idle.Push(id, 0);
  EXPECT_EQ(idle.next(), 2);
  idle.Remove(2);
  EXPECT_EQ(idle.next(), 0);
  idle.Push(2, 0);
  idle.Remove(0);
  EXPECT_EQ(idle.next(), 3);
  idle.CheckInvariants();
}

TEST(IdleBlocks, WhoHasMostForHisWeightIsNext) {
  IdleBlocks idle(10);
  idle.SetOwner(0, 3, 0);
  idle.SetOwner(1, 1, 0);
  for (int32_t id = 0; id < 6; ++id) idle.Push(id, 0);
  for (int32_t id = 6; id < 9; ++id) idle.Push(id, 1);
  EXPECT_EQ(idle.next(), 6) << "3 of weight 1 against 6 of weight 3";
  idle.SetOwner(0, 1, 0);
  EXPECT_EQ(idle.next(), 0);
}

TEST(IdleBlocks, WithAsManyTheOldestIsNext) {
  IdleBlocks idle(4);
  idle.SetOwner(0, 1, 0);
  idle.SetOwner(1, 1, 0);
  idle.Push(3, 1);
  idle.Push(1, 0);
  EXPECT_EQ(idle.next(), 3);
  idle.Remove(3);
  idle.Push(3, 1);
  EXPECT_EQ(idle.next(), 1);
}

TEST(IdleBlocks, NamesWhatIsBeyondALimit) {
  IdleBlocks idle(8);
  idle.SetOwner(0, 1, 2);
  idle.SetOwner(1, 1, 0);
  for (int32_t id = 0; id < 2; ++id) idle.Push(id, 0);
  for (int32_t id = 4; id < 8; ++id) idle.Push(id, 1);
  EXPECT_EQ(idle.over(), -1);
  idle.Push(2, 0);
  EXPECT_EQ(idle.over(), 0);
  idle.Remove(0);
  EXPECT_EQ(idle.over(), -1);
  // A limit that is lowered counts at once.
  idle.SetOwner(0, 1, 1);
  EXPECT_EQ(idle.over(), 1);
}

// Against a plain search.
TEST(IdleBlocks, RandomUseIsAsTheRuleSays) {
  constexpr uint32_t kSeed = 20261126;
  std::printf("seed %u\n", kSeed);
  std::mt19937 rng(kSeed);
  constexpr int32_t kTotal = 60;
  constexpr int32_t kOwners = 9;
  IdleBlocks idle(kTotal);
  std::vector<int32_t> weight(kOwners, 1);
  std::vector<std::vector<int32_t>> lists(kOwners);  // oldest first
  std::map<int32_t, uint64_t> since;
  uint64_t tick = 0;
  for (int32_t owner = 0; owner < kOwners; ++owner) idle.SetOwner(owner, 1, 0);
  for (int step = 0; step < 30'000; ++step) {
    const int32_t id = static_cast<int32_t>(rng() % kTotal);
    const int32_t owner = static_cast<int32_t>(rng() % kOwners);
    if (since.count(id) == 0) {
      idle.Push(id, owner);
      lists[owner].push_back(id);
      since[id] = ++tick;
    } else if (rng() % 2 == 0) {
      idle.Remove(id);
      for (auto& list : lists) std::erase(list, id);
      since.erase(id);
    } else {
      weight[owner] = 1 + static_cast<int32_t>(rng() % 5);
      idle.SetOwner(owner, weight[owner], 0);
    }
    int32_t loser = -1;
    for (int32_t o = 0; o < kOwners; ++o) {
      if (lists[o].empty()) continue;
      const auto more = [&](int32_t a, int32_t b) {
        const auto left = lists[a].size() * weight[b];
        const auto right = lists[b].size() * weight[a];
        return left != right
                   ? left > right
                   : since[lists[a].front()] < since[lists[b].front()];
      };
      if (loser < 0 || more(o, loser)) loser = o;
    }
    ASSERT_EQ(idle.next(), loser < 0 ? -1 : lists[loser].front());
    ASSERT_EQ(idle.size(), static_cast<int32_t>(since.size()));
    if (step % 100 == 0) idle.CheckInvariants();
  }
}

}  // namespace
}  // namespace descant
