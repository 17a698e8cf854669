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
    EXPECT_TRUE(table.CanAcquire(*a));
    table.EndLoad(slot, succeeds);
    table.CheckInvariants();
    EXPECT_EQ(table.loaded(slot), succeeds);
    EXPECT_EQ(table.occupied(), succeeds ? 1 : 0);
    EXPECT_TRUE(table.CanAcquire(*b));
    if (succeeds) {
      const auto taken = table.Acquire(b);
    }
  }
}

TEST(SlotTableTest, EvictForFreesMemory) {
  SlotTable table(3);
  const auto b = table.Acquire(MakeNamed("", "b"));
  EXPECT_FALSE(table.EvictFor(b->slot()).has_value());
  int32_t slot = -1;
  {
    const auto lease = table.Acquire(MakeNamed("", "a"));
    slot = lease->slot();
    Load(&table, slot);
    EXPECT_FALSE(table.EvictFor(b->slot()).has_value());
  }
  EXPECT_EQ(table.EvictFor(b->slot()), slot);
  EXPECT_EQ(table.occupied(), 1);
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

// Has the tenant use the adapters, one after the other, each loaded.
void Use(SlotTable* table, const std::string& tenant, int first, int last) {
  for (int i = first; i <= last; ++i) {
    const auto lease = table->Acquire(MakeNamed(tenant, absl::StrCat(i)));
    ASSERT_TRUE(lease.has_value());
    Load(table, lease->slot());
  }
}

int SlotsOf(const SlotTable& table, const std::string& tenant) {
  int count = 0;
  for (int32_t slot = 0; slot < table.num_slots(); ++slot) {
    const auto& adapter = table.adapter(slot);
    count += adapter != nullptr && adapter->tenant == tenant;
  }
  return count;
}

TEST(SlotTableTest, ColdAdaptersOfATenantEvictItsOwn) {
  SlotTable table(6);
  Use(&table, "hot", 1, 3);
  Use(&table, "cold", 1, 1000);
  EXPECT_EQ(SlotsOf(table, "hot"), 3);
  for (int i = 1; i <= 3; ++i) {
    EXPECT_TRUE(table.Find({"hot", absl::StrCat(i)}).has_value());
  }
  table.CheckInvariants();
}

TEST(SlotTableTest, ATenantGrowsToItsShareAndNoFurther) {
  SlotTable table(6);
  Use(&table, "first", 1, 10);
  EXPECT_EQ(SlotsOf(table, "first"), 6);
  Use(&table, "second", 1, 10);
  EXPECT_EQ(SlotsOf(table, "first"), 3);
  Use(&table, "third", 1, 10);
  EXPECT_EQ(SlotsOf(table, "first"), 2);
  EXPECT_EQ(SlotsOf(table, "second"), 2);
  EXPECT_EQ(SlotsOf(table, "third"), 2);
}

TEST(SlotTableTest, AnOddSlotDoesNotGoToAndFro) {
  SlotTable table(3);
  Use(&table, "a", 1, 2);
  Use(&table, "b", 1, 50);
  EXPECT_EQ(SlotsOf(table, "a"), 2);
  Use(&table, "a", 3, 50);
  EXPECT_EQ(SlotsOf(table, "a"), 2);
}

TEST(SlotTableTest, MoreTenantsThanSlotsTakeTurns) {
  SlotTable table(2);
  for (int i = 0; i < 10; ++i) Use(&table, absl::StrCat("t", i), 1, 1);
  EXPECT_EQ(SlotsOf(table, "t8") + SlotsOf(table, "t9"), 2);
}

TEST(SlotTableTest, SaysWhatAnAdapterWaitsFor) {
  SlotTable table(4);
  std::vector<SlotLease> leases;
  for (const char* digest : {"1", "2"}) {
    leases.push_back(*table.Acquire(MakeNamed("a", digest)));
    leases.push_back(*table.Acquire(MakeNamed("b", digest)));
  }
  const auto more = MakeNamed("a", "3");
  const auto other = MakeNamed("c", "1");
  EXPECT_EQ(table.Access(*more), SlotAccess::kOwnShare);
  EXPECT_EQ(table.Access(*other), SlotAccess::kFull);
  for (const SlotLease& lease : leases) Load(&table, lease.slot());
  leases.pop_back();  // b gives one back: not for a, which has its share
  EXPECT_EQ(table.Access(*more), SlotAccess::kOwnShare);
  EXPECT_EQ(table.Access(*other), SlotAccess::kGranted);
  EXPECT_TRUE(table.MayTake(*more, leases[0].slot()));
  EXPECT_FALSE(table.MayTake(*more, leases[1].slot()));
  EXPECT_TRUE(table.MayTake(*other, leases[1].slot()));
  leases.erase(leases.begin());
  EXPECT_EQ(table.Access(*more), SlotAccess::kGranted);
}

TEST(SlotTableTest, PinnedSlotsAreNobodysShare) {
  SlotTable table(4);
  auto pin = table.Acquire(MakeNamed("a", "pinned"), LeaseKind::kHold);
  Load(&table, pin->slot());
  table.SetPinned(pin->slot(), true);
  table.CheckInvariants();
  EXPECT_EQ(table.used(), 0);
  Use(&table, "b", 1, 3);
  // With the pin "a" has none of the three that are shared.
  Use(&table, "a", 1, 20);
  EXPECT_EQ(SlotsOf(table, "a"), 2);
  EXPECT_EQ(SlotsOf(table, "b"), 2);
  EXPECT_TRUE(table.loaded(pin->slot()));
  table.SetPinned(pin->slot(), false);
  pin.reset();
  table.CheckInvariants();
  Use(&table, "a", 21, 23);
  EXPECT_FALSE(table.Find({"a", "pinned"}).has_value());
}

TEST(SlotTableTest, ARetiringSlotIsLeftUntilItIsFreed) {
  SlotTable table(2);
  const auto a = MakeNamed("", "a");
  auto lease = table.Acquire(a);
  const int32_t slot = lease->slot();
  table.BeginLoad(slot);
  table.Retire(slot);
  EXPECT_EQ(table.Access(*a), SlotAccess::kRetiring);
  EXPECT_FALSE(table.Acquire(a).has_value());
  lease.reset();
  EXPECT_FALSE(table.retired(slot));
  table.EndLoad(slot, true);
  EXPECT_TRUE(table.retired(slot));
  Use(&table, "", 1, 5);  // of the other slot
  EXPECT_EQ(table.adapter(slot), a);
  table.CheckInvariants();
  const uint64_t releases = table.releases();
  table.FreeRetired(slot);
  EXPECT_GT(table.releases(), releases);
  EXPECT_TRUE(table.Acquire(a).has_value());
  table.CheckInvariants();
}

TEST(SlotTableTest, MemoryIsSharedByWhatIsLoaded) {
  SlotTable table(16);  // of which the memory takes four
  Use(&table, "a", 1, 4);
  const auto first = table.Acquire(MakeNamed("b", "1"));
  EXPECT_TRUE(table.EvictFor(first->slot()).has_value());
  Load(&table, first->slot());
  const auto second = table.Acquire(MakeNamed("b", "2"));
  EXPECT_TRUE(table.EvictFor(second->slot()).has_value());
  Load(&table, second->slot());
  const auto third = table.Acquire(MakeNamed("b", "3"));
  EXPECT_FALSE(table.EvictFor(third->slot()).has_value());
  EXPECT_TRUE(table.OnlyOwnMemory(third->slot()));
  EXPECT_EQ(SlotsOf(table, "a"), 2);
}

// A sequence uses the tenant's adapters one after the other.
void UseWithin(SlotTable* table, const SlotLimits& limits,
               const std::string& tenant, int first, int last) {
  for (int i = first; i <= last; ++i) {
    auto lease = table->Acquire(MakeNamed(tenant, absl::StrCat(i)),
                                LeaseKind::kSequence, &limits);
    ASSERT_TRUE(lease.has_value());
    Load(table, lease->slot());
    table->CheckInvariants();
  }
}

TEST(SlotTableTest, AMostHoldsThoughSlotsBeFree) {
  SlotTable table(8);
  SlotLimits limits;
  limits.most = 3;
  UseWithin(&table, limits, "a", 1, 20);
  EXPECT_EQ(SlotsOf(table, "a"), 3);
  for (int i = 18; i <= 20; ++i) {
    EXPECT_TRUE(table.Find({"a", absl::StrCat(i)}).has_value());
  }
  std::vector<SlotLease> leases;
  for (int i = 18; i <= 20; ++i) {
    leases.push_back(*table.Acquire(MakeNamed("a", absl::StrCat(i))));
  }
  // All in use: it waits for its own, and for nobody else's.
  const auto more = MakeNamed("a", "21");
  EXPECT_EQ(table.Access(*more), SlotAccess::kOwnShare);
  EXPECT_FALSE(table.Acquire(more).has_value());
  const auto other = table.Acquire(MakeNamed("b", "1"));
  Load(&table, other->slot());
  EXPECT_FALSE(table.MayTake(*more, other->slot()));
  EXPECT_TRUE(table.MayTake(*more, leases[0].slot()));
  leases.pop_back();
  EXPECT_EQ(table.Access(*more), SlotAccess::kGranted);
}

TEST(SlotTableTest, BeyondASmallerShareATenantLosesFirst) {
  SlotTable table(6);
  SlotLimits limits;
  limits.share = 1;
  UseWithin(&table, limits, "small", 1, 6);
  EXPECT_EQ(SlotsOf(table, "small"), 6) << "nobody else wanted them";
  Use(&table, "other", 1, 20);
  EXPECT_EQ(SlotsOf(table, "small"), 2);
  EXPECT_EQ(SlotsOf(table, "other"), 4);
}

TEST(SlotTableTest, AShareIsNeverMoreThanAnEqualOne) {
  SlotTable table(4);
  SlotLimits limits;
  limits.share = 100;
  UseWithin(&table, limits, "greedy", 1, 20);
  Use(&table, "other", 1, 20);
  EXPECT_EQ(SlotsOf(table, "greedy"), 2);
  EXPECT_EQ(SlotsOf(table, "other"), 2);
}

TEST(SlotTableTest, CountsHitsAndMissesOfSequences) {
  SlotTable table(2);
  const auto a = MakeNamed("", "a");
  { const auto hold = table.Acquire(a, LeaseKind::kHold); }
  Use(&table, "", 1, 1);
  Use(&table, "", 1, 1);
  EXPECT_EQ(table.misses(), 1u);
  EXPECT_EQ(table.hits(), 1u);
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
        const SlotLimits limits{static_cast<int32_t>(rng() % 4),
                                static_cast<int32_t>(rng() % 5)};
        auto lease = table.Acquire(
            adapter, rng() % 4 == 0 ? LeaseKind::kHold : LeaseKind::kSequence,
            rng() % 8 == 0 ? &limits : nullptr);
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
          } else if (table.retired(slot)) {
            table.FreeRetired(slot);
          } else if (table.adapter(slot) != nullptr && rng() % 20 == 0) {
            table.Retire(slot);
          }
        }
    }
    table.CheckInvariants();
  }
}

}  // namespace
}  // namespace descant
