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

void Load(SlotTable* table, int32_t slot) {
  if (table->loaded(slot)) return;
  table->BeginLoad(slot);
  table->EndLoad(slot, true);
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
    Load(&table, lease->slot());
  }
  const auto c = table.Acquire(MakeNamed("", "c"));
  EXPECT_EQ(table.evictions(), 1u);
  const auto again = table.Acquire(a);
  EXPECT_TRUE(table.loaded(again->slot()));
  EXPECT_FALSE(table.CanAcquire(*b));
  table.CheckInvariants();
}

TEST(SlotTableTest, WhatWasLoadedStays) {
  SlotTable table(2);
  const auto a = MakeNamed("", "a");
  {
    const auto lease = table.Acquire(a);
    EXPECT_FALSE(table.loaded(lease->slot()));
    Load(&table, lease->slot());
    EXPECT_TRUE(table.loaded(lease->slot()));
    EXPECT_EQ(table.releases(), 0u);
  }
  EXPECT_EQ(table.releases(), 1u);
  EXPECT_TRUE(table.loaded(table.Acquire(a)->slot()));
}

TEST(SlotTableTest, AFailedLoadFreesTheSlot) {
  SlotTable table(1);
  const auto a = MakeNamed("", "a");
  { const auto lease = table.Acquire(a); }
  EXPECT_EQ(table.occupied(), 0);
  {
    const auto lease = table.Acquire(a);
    table.BeginLoad(lease->slot());
    table.EndLoad(lease->slot(), false);
    EXPECT_EQ(table.occupied(), 1);
  }
  EXPECT_EQ(table.occupied(), 0);
  EXPECT_EQ(table.releases(), 0u);
  table.CheckInvariants();
}

TEST(SlotTableTest, ASlotThatLoadsIsKeptWithoutLeases) {
  SlotTable table(1);
  const auto a = MakeNamed("", "a");
  const auto b = MakeNamed("", "b");
  int32_t slot = -1;
  for (const bool succeeds : {true, false}) {
    {
      const auto lease = table.Acquire(a);
      slot = lease->slot();
      table.BeginLoad(slot);
    }
    table.CheckInvariants();
    EXPECT_EQ(table.leased(), 0);
    EXPECT_FALSE(table.CanAcquire(*b));
    EXPECT_FALSE(table.EvictOne().has_value());
    EXPECT_TRUE(table.CanAcquire(*a));
    table.EndLoad(slot, succeeds);
    table.CheckInvariants();
    EXPECT_EQ(table.loaded(slot), succeeds);
    EXPECT_EQ(table.EvictOne().has_value(), succeeds);
  }
}

TEST(SlotTableTest, EvictOneFreesMemory) {
  SlotTable table(2);
  EXPECT_FALSE(table.EvictOne().has_value());
  {
    const auto lease = table.Acquire(MakeNamed("", "a"));
    Load(&table, lease->slot());
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
  Load(&table, a->slot());
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
        for (int32_t slot = 0; slot < table.num_slots(); ++slot) {
          if (rng() % 2 == 0) continue;
          if (table.loading(slot)) {
            table.EndLoad(slot, rng() % 3 != 0);
          } else if (table.leases(slot) > 0 && !table.loaded(slot)) {
            table.BeginLoad(slot);
          }
        }
    }
    table.CheckInvariants();
  }
}

}  // namespace
}  // namespace descant
