// Tiles of rows, against the host's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "runtime/kernels/cuda/launches.cuh"
#include "tests/runtime/kernels/cuda/lora_tiles.h"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {
namespace {

using cuda_emulation::GuardedArray;

void ExpectTiles(const std::vector<int32_t>& row_slots, int32_t slots,
                 int32_t extra_tiles = 0, uint64_t seeds = 2) {
  const auto rows = static_cast<int32_t>(row_slots.size());
  const int32_t max_tiles = MaxLoraTiles(rows, slots) + extra_tiles;
  HostTiles want = MakeHostTiles(row_slots, slots, max_tiles);
  GuardedArray<int32_t> device_slots(row_slots);
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    cuda_emulation::SetSeed(seed);
    HostTiles got(max_tiles);
    std::fill(got.slots.begin(), got.slots.end(), -9);
    std::fill(got.rows.begin(), got.rows.end(), -9);
    const absl::Status status = Route({.row_slots = device_slots.data(),
                                       .rows = rows,
                                       .slots = slots,
                                       .tiles = got.Args()});
    ASSERT_TRUE(status.ok()) << status;
    for (int32_t i = 0; i < max_tiles; ++i) {
      ASSERT_EQ(got.slots[i], want.slots[i]) << "tile " << i << " of " << rows;
    }
    for (size_t i = 0; i < want.rows.size(); ++i) {
      ASSERT_EQ(got.rows[i], want.rows[i]) << "row " << i << " of " << rows;
    }
  }
}

// A part of the rows has no adapter.
std::vector<int32_t> RandomSlots(int32_t rows, int32_t slots, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> row_slots(static_cast<size_t>(rows));
  for (int32_t& slot : row_slots) {
    slot = random() % 4 == 0 ? kCudaNoSlot
                             : static_cast<int32_t>(random() % slots);
  }
  return row_slots;
}

TEST(LoraRouteTest, NoRows) {
  ExpectTiles({}, 4);
  ExpectTiles({}, 4, 5);
  ExpectTiles({}, 0, 2);
}

TEST(LoraRouteTest, OneRow) {
  ExpectTiles({0}, 1);
  ExpectTiles({2}, 3, 1);
  ExpectTiles({kCudaNoSlot}, 3);
}

TEST(LoraRouteTest, RowsOfOneSlot) {
  for (const int32_t rows : {15, 16, 17, 32, 33, 1025}) {
    ExpectTiles(std::vector<int32_t>(static_cast<size_t>(rows), 5), 8, 3);
  }
}

TEST(LoraRouteTest, ARowASlot) {
  std::vector<int32_t> row_slots;
  for (int32_t i = 0; i < 64; ++i) row_slots.push_back(63 - i);
  ExpectTiles(row_slots, 64);
}

TEST(LoraRouteTest, ManyRows) {
  for (const int32_t slots : {1, 3, 64, 1000, kMaxRouteSlots}) {
    for (const int32_t rows : {100, 1100}) {
      ExpectTiles(RandomSlots(rows, slots, static_cast<uint32_t>(slots + rows)),
                  slots, rows % 7);
    }
  }
}

TEST(LoraRouteTest, EverySlot) {
  std::vector<int32_t> row_slots;
  for (int32_t i = 0; i < kMaxRouteSlots; ++i) {
    row_slots.push_back(i * 1237 % kMaxRouteSlots);
  }
  ExpectTiles(row_slots, kMaxRouteSlots, 0, 1);
}

TEST(LoraRouteTest, TheMostRows) {
  ExpectTiles(RandomSlots(16384, 7, 3), 7, 2000, 1);
}

TEST(LoraRouteTest, ASlotBeyondTheTableIsNone) {
  ExpectTiles({3, 4, 5, -7, 3, 1 << 30, -32, -64}, 4);
}

TEST(LoraRouteTest, Limits) {
  GuardedArray<int32_t> row_slots(std::vector<int32_t>(40, 0));
  HostTiles tiles(4);
  RouteArgs args = {.row_slots = row_slots.data(),
                    .rows = 40,
                    .slots = 1,
                    .tiles = tiles.Args()};
  EXPECT_TRUE(Route(args).ok());
  HostTiles enough(MaxLoraTiles(40, kMaxRouteSlots + 1));
  args.tiles = enough.Args();
  args.slots = kMaxRouteSlots + 1;
  EXPECT_THAT(std::string(Route(args).message()),
              testing::HasSubstr("40 rows of 4097 slots"));
  args.tiles = tiles.Args();
  args.slots = 2;  // five tiles may be needed
  EXPECT_THAT(std::string(Route(args).message()),
              testing::HasSubstr("4 tiles for 40 rows of 2 slots"));
}

// MaxLoraTiles is enough for any rows: the most tiles are made by slots that
// have one row more than whole tiles.
TEST(LoraRouteTest, TilesAreEnough) {
  for (int32_t rows = 0; rows < 200; ++rows) {
    for (const int32_t slots : {1, 2, 5, 40, 300}) {
      int32_t most = 0;
      for (int32_t used = 1; used <= std::min(slots, rows); ++used) {
        most = std::max(most, used + (rows - used) / kLoraTileRows);
      }
      EXPECT_GE(MaxLoraTiles(rows, slots), most) << rows << ", " << slots;
    }
  }
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
