#include "adapters/slot_table.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace descant {
namespace {

std::shared_ptr<const Adapter> MakeNamed(const std::string& tenant,
                                         const std::string& digest) {
  auto adapter = std::make_shared<Adapter>();
  adapter->tenant = tenant;
  adapter->digest = digest;
  return adapter;
}

TEST(SlotTableTest, OneSlotPerAdapterHoweverManyLeases) {
  SlotTable table(2);
  const auto a = MakeNamed("", "a");
  auto first = table.Acquire(a);
  auto second = table.Acquire(a);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->slot(), second->slot());
  EXPECT_EQ(table.leases(first->slot()), 2);
  EXPECT_EQ(table.leased(), 1);
  table.CheckInvariants();
}

TEST(SlotTableTest, SameDigestOfAnotherTenantIsAnotherSlot) {
  SlotTable table(2);
  const auto first = table.Acquire(MakeNamed("t1", "a"));
  const auto second = table.Acquire(MakeNamed("t2", "a"));
  EXPECT_NE(first->slot(), second->slot());
}

TEST(SlotTableTest, RefusesWhenAllSlotsAreLeased) {
  SlotTable table(1);
  auto lease = table.Acquire(MakeNamed("", "a"));
  const auto b = MakeNamed("", "b");
  EXPECT_FALSE(table.CanAcquire(*b));
  EXPECT_FALSE(table.Acquire(b).has_value());
  lease.reset();
  EXPECT_TRUE(table.CanAcquire(*b));
  EXPECT_TRUE(table.Acquire(b).has_value());
  table.CheckInvariants();
}

TEST(SlotTableTest, EvictsTheLeastRecentlyUsed) {
  SlotTable table(2);
  const auto a = MakeNamed("", "a");
  const auto b = MakeNamed("", "b");
  for (const auto& adapter : {a, b, a}) {
    const auto lease = table.Acquire(adapter);
    table.MarkLoaded(lease->slot());
  }
  const auto c = table.Acquire(MakeNamed("", "c"));
  EXPECT_EQ(table.evictions(), 1u);
  const auto again = table.Acquire(a);
  EXPECT_TRUE(table.loaded(again->slot()));
  EXPECT_FALSE(table.CanAcquire(*b));
  table.CheckInvariants();
}

TEST(SlotTableTest, TellsWhatToLoad) {
  SlotTable table(2);
  const auto a = MakeNamed("", "a");
  {
    const auto lease = table.Acquire(a);
    EXPECT_EQ(table.SlotsToLoad(), std::vector<int32_t>{lease->slot()});
    table.MarkLoaded(lease->slot());
    EXPECT_TRUE(table.SlotsToLoad().empty());
  }
  // Resident: nothing to load.
  const auto again = table.Acquire(a);
  EXPECT_TRUE(table.SlotsToLoad().empty());
}

TEST(SlotTableTest, AFailedLoadFreesTheSlot) {
  SlotTable table(1);
  const auto a = MakeNamed("", "a");
  { const auto lease = table.Acquire(a); }
  EXPECT_EQ(table.occupied(), 0);
  const auto lease = table.Acquire(a);
  EXPECT_EQ(table.SlotsToLoad().size(), 1u);
  table.CheckInvariants();
}

TEST(SlotTableTest, EvictOneFreesMemory) {
  SlotTable table(2);
  EXPECT_FALSE(table.EvictOne().has_value());
  {
    const auto lease = table.Acquire(MakeNamed("", "a"));
    table.MarkLoaded(lease->slot());
    EXPECT_FALSE(table.EvictOne().has_value());
  }
  EXPECT_EQ(table.EvictOne(), 0);
  EXPECT_EQ(table.occupied(), 0);
  table.CheckInvariants();
}

TEST(SlotTableTest, MovedLeasesReleaseOnce) {
  SlotTable table(2);
  auto a = table.Acquire(MakeNamed("", "a"));
  auto b = table.Acquire(MakeNamed("", "b"));
  table.MarkLoaded(a->slot());
  SlotLease moved = std::move(*a);
  a.reset();
  EXPECT_EQ(table.leased(), 2);
  moved = std::move(*b);
  EXPECT_EQ(table.leased(), 1);
  table.CheckInvariants();
}

TEST(SlotTableTest, InvariantsHoldUnderRandomUse) {
  constexpr uint32_t kSeed = 20261123;
  std::printf("seed %u\n", kSeed);
  std::mt19937 rng(kSeed);
  SlotTable table(4);
  std::vector<std::shared_ptr<const Adapter>> adapters;
  for (int i = 0; i < 12; ++i) {
    adapters.push_back(MakeNamed(absl::StrCat(i % 2), absl::StrCat(i)));
  }
  std::vector<SlotLease> leases;
  for (int step = 0; step < 20'000; ++step) {
    switch (rng() % 4) {
      case 0:
      case 1: {
        const auto& adapter = adapters[rng() % adapters.size()];
        const bool can = table.CanAcquire(*adapter);
        auto lease = table.Acquire(adapter);
        ASSERT_EQ(lease.has_value(), can);
        if (!lease) break;
        ASSERT_EQ(table.adapter(lease->slot()), adapter);
        leases.push_back(std::move(*lease));
        break;
      }
      case 2:
        if (leases.empty()) break;
        std::swap(leases[rng() % leases.size()], leases.back());
        leases.pop_back();
        break;
      default:
        for (const int32_t slot : table.SlotsToLoad()) {
          if (rng() % 2 == 0) table.MarkLoaded(slot);
        }
    }
    table.CheckInvariants();
  }
}

}  // namespace
}  // namespace descant
