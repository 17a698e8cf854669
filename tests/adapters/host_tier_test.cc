#include "adapters/host_tier.h"

#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace descant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class SizedImage final : public AdapterImage {
 public:
  explicit SizedImage(uint64_t bytes) : bytes_(bytes) { ++alive; }
  ~SizedImage() override { --alive; }
  uint64_t bytes() const override { return bytes_; }

  static int alive;

 private:
  const uint64_t bytes_;
};
int SizedImage::alive = 0;

std::shared_ptr<const AdapterImage> Image(uint64_t bytes) {
  return std::make_shared<SizedImage>(bytes);
}

// Inserts without keeping the hold; the digests of what that evicted.
std::vector<std::string> Put(HostTier* tier, const std::string& tenant,
                             const std::string& digest, uint64_t bytes) {
  std::vector<HostTier::Evicted> evicted;
  tier->Insert({tenant, digest}, Image(bytes), &evicted);
  tier->CheckInvariants();
  std::vector<std::string> digests;
  for (const auto& each : evicted) {
    digests.push_back(absl::StrCat(each.key.tenant, each.key.digest));
    EXPECT_NE(each.image, nullptr);
  }
  return digests;
}

TEST(HostTierTest, EvictsTheLeastRecentlyUsedForOneTenant) {
  HostTier tier(100);
  EXPECT_THAT(Put(&tier, "t", "a", 40), IsEmpty());
  EXPECT_THAT(Put(&tier, "t", "b", 40), IsEmpty());
  EXPECT_NE(tier.Find({"t", "a"}).image(), nullptr);
  EXPECT_EQ(tier.Find({"t", "c"}).image(), nullptr);
  EXPECT_THAT(Put(&tier, "t", "c", 40), ElementsAre("tb"));
  EXPECT_THAT(Put(&tier, "t", "d", 100), ElementsAre("ta", "tc"));
  const HostTierStats stats = tier.Stats();
  EXPECT_EQ(stats.adapters, 1);
  EXPECT_EQ(stats.bytes, 100u);
  EXPECT_EQ(stats.capacity, 100u);
  EXPECT_EQ(stats.hits, 1u);
  EXPECT_EQ(stats.misses, 1u);
  EXPECT_EQ(stats.evictions, 3u);
}

TEST(HostTierTest, WhatIsLargerThanTheBudgetIsUsedOnce) {
  HostTier tier(100);
  Put(&tier, "t", "a", 60);
  std::vector<HostTier::Evicted> evicted;
  const HostTier::Hold hold = tier.Insert({"t", "b"}, Image(101), &evicted);
  EXPECT_FALSE(hold.kept());
  EXPECT_EQ(hold.image()->bytes(), 101u);
  EXPECT_THAT(evicted, IsEmpty());
  EXPECT_TRUE(tier.Contains({"t", "a"}));
  EXPECT_FALSE(tier.Contains({"t", "b"}));
  HostTier none(0);
  EXPECT_FALSE(none.Insert({"t", "a"}, Image(1), &evicted).kept());
}

TEST(HostTierTest, WhatIsHeldStays) {
  HostTier tier(100);
  std::vector<HostTier::Evicted> evicted;
  HostTier::Hold a = tier.Insert({"t", "a"}, Image(60), &evicted);
  EXPECT_TRUE(a.kept());
  {
    const HostTier::Hold b = tier.Insert({"t", "b"}, Image(60), &evicted);
    EXPECT_FALSE(b.kept());
  }
  EXPECT_THAT(evicted, IsEmpty());
  a.Release();
  EXPECT_THAT(Put(&tier, "t", "b", 60), ElementsAre("ta"));
}

TEST(HostTierTest, TheFirstImageOfAKeyStays) {
  HostTier tier(100);
  std::vector<HostTier::Evicted> evicted;
  const HostTier::Hold first = tier.Insert({"t", "a"}, Image(10), &evicted);
  const HostTier::Hold second = tier.Insert({"t", "a"}, Image(20), &evicted);
  EXPECT_EQ(first.image(), second.image());
  EXPECT_EQ(tier.Stats().bytes, 10u);
}

TEST(HostTierTest, DroppedBytesComeBackWithTheLastHold) {
  HostTier tier(100);
  std::vector<HostTier::Evicted> evicted;
  EXPECT_EQ(tier.Drop({"t", "a"}), nullptr);
  Put(&tier, "t", "a", 30);
  EXPECT_EQ(tier.Drop({"t", "a"})->bytes(), 30u);
  EXPECT_EQ(tier.Stats().bytes, 0u);
  EXPECT_EQ(SizedImage::alive, 0);
  HostTier::Hold hold = tier.Insert({"t", "a"}, Image(30), &evicted);
  EXPECT_NE(tier.Drop({"t", "a"}), nullptr);
  EXPECT_FALSE(tier.Contains({"t", "a"}));
  EXPECT_EQ(tier.Stats().bytes, 30u);
  Put(&tier, "t", "a", 40);  // beside the dropped one
  EXPECT_EQ(tier.Stats().bytes, 70u);
  hold.Release();
  tier.CheckInvariants();
  EXPECT_EQ(tier.Stats().bytes, 40u);
  EXPECT_EQ(SizedImage::alive, 1);
}

TEST(HostTierTest, MovedHoldsReleaseOnce) {
  HostTier tier(100);
  std::vector<HostTier::Evicted> evicted;
  HostTier::Hold a = tier.Insert({"t", "a"}, Image(60), &evicted);
  HostTier::Hold b = std::move(a);
  EXPECT_EQ(a.image(), nullptr);
  EXPECT_FALSE(a.kept());
  a = std::move(b);
  EXPECT_THAT(Put(&tier, "t", "b", 60), IsEmpty());
  a = HostTier::Hold();
  EXPECT_THAT(Put(&tier, "t", "b", 60), ElementsAre("ta"));
}

// 1,000 cold adapters of one tenant leave the hot ones of others alone.
TEST(HostTierTest, ColdAdaptersOfATenantEvictItsOwn) {
  HostTier tier(100);
  for (int i = 0; i < 5; ++i) Put(&tier, "hot", absl::StrCat(i), 10);
  for (int i = 0; i < 1000; ++i) {
    for (const std::string& gone : Put(&tier, "cold", absl::StrCat(i), 10)) {
      EXPECT_EQ(gone.substr(0, 4), "cold");
    }
  }
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(tier.Contains({"hot", absl::StrCat(i)}));
  }
}

TEST(HostTierTest, ATenantTakesFromTheOneThatHasMost) {
  HostTier tier(120);
  for (int i = 0; i < 8; ++i) Put(&tier, "a", absl::StrCat(i), 10);
  for (int i = 0; i < 4; ++i) Put(&tier, "b", absl::StrCat(i), 10);
  EXPECT_THAT(Put(&tier, "c", "0", 20), ElementsAre("a0", "a1"));
  EXPECT_THAT(Put(&tier, "c", "1", 20), ElementsAre("a2", "a3"));
  // Each has its share: from here on everyone takes from itself.
  EXPECT_THAT(Put(&tier, "c", "2", 10), ElementsAre("c0"));
  EXPECT_THAT(Put(&tier, "b", "4", 10), IsEmpty());
  EXPECT_THAT(Put(&tier, "b", "5", 20), ElementsAre("b0", "b1"));
}

TEST(HostTierTest, InvariantsAndSharesHoldUnderRandomUse) {
  constexpr uint32_t kSeed = 20261126;
  std::printf("seed %u\n", kSeed);
  std::mt19937 rng(kSeed);
  HostTier tier(1000);
  std::vector<HostTier::Hold> holds;
  for (int step = 0; step < 20'000; ++step) {
    const std::string tenant = absl::StrCat("t", rng() % 4);
    const std::string digest = absl::StrCat(rng() % 20);
    switch (rng() % 5) {
      case 0:
        holds.push_back(tier.Find({tenant, digest}));
        break;
      case 1:
        tier.Drop({tenant, digest});
        break;
      case 2:
        if (holds.empty()) break;
        std::swap(holds[rng() % holds.size()], holds.back());
        holds.pop_back();
        break;
      default: {
        std::vector<HostTier::Evicted> evicted;
        HostTier::Hold hold =
            tier.Insert({tenant, digest}, Image(1 + rng() % 300), &evicted);
        if (rng() % 4 == 0) holds.push_back(std::move(hold));
      }
    }
    while (holds.size() > 6) holds.erase(holds.begin());
    tier.CheckInvariants();
  }
  holds.clear();
  for (int i = 0; i < 80; ++i) {
    tier.Drop({absl::StrCat("t", i / 20), absl::StrCat(i % 20)});
  }
  tier.CheckInvariants();
  EXPECT_EQ(tier.Stats().bytes, 0u);
  EXPECT_EQ(SizedImage::alive, 0);
}

}  // namespace
}  // namespace descant
