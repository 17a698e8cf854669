// Shrink and expand, against sums in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "runtime/kernels/cuda/launches.cuh"
#include "tests/runtime/kernels/cuda/lora_layer.h"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {
namespace {

using cuda_emulation::GuardedArray;

std::vector<int32_t> Repeat(int32_t slot, int32_t times) {
  return std::vector<int32_t>(static_cast<size_t>(times), slot);
}
std::vector<int32_t> operator+(std::vector<int32_t> a,
                               const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

template <typename Half>
void ExpectBoth(const Case& c, uint64_t seeds = 2) {
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    cuda_emulation::SetSeed(seed);
    Layer<Half> shrunk(c, static_cast<uint32_t>(seed));
    shrunk.RunShrink();
    shrunk.ExpectPlanes();
    Layer<Half> expanded(c, static_cast<uint32_t>(seed));
    expanded.FillPlanes();
    expanded.RunExpand();
    expanded.ExpectOutput();
    if (testing::Test::HasFailure()) return;
  }
}

template <typename Half>
class LoraTest : public testing::Test {};
using Halves = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(LoraTest, Halves);

// Rows of a tile from one to sixteen, and more.
TYPED_TEST(LoraTest, RowsOfOneAdapter) {
  for (const int32_t rows : {1, 2, 3, 4, 5, 8, 11, 16, 18, 37}) {
    SCOPED_TRACE(rows);
    ExpectBoth<TypeParam>(
        {.ranks = {{16, 8, 3}}, .row_slots = Repeat(0, rows)});
  }
}

TYPED_TEST(LoraTest, Ranks) {
  for (const int32_t rank : {1, 8, 9, 16, 24, 32, 40, 64, 72, 128, 200, 256}) {
    for (const int32_t rows : {1, 3, 9}) {
      SCOPED_TRACE(testing::Message() << rank << ", " << rows);
      ExpectBoth<TypeParam>({.columns = {136, 0, 24},
                             .ranks = {{rank, 0, 8}},
                             .row_slots = Repeat(0, rows)},
                            1);
    }
  }
}

TYPED_TEST(LoraTest, Depths) {
  for (const int32_t in : {8, 72, 576, 1096}) {
    for (const int32_t splits : {1, 2, 3, 8}) {
      SCOPED_TRACE(testing::Message() << in << ", " << splits);
      ExpectBoth<TypeParam>(
          {.in = in,
           .splits = splits,
           .columns = {8, 8, 8},
           .ranks = {{8, 0, 0}, {9, 4, 20}},
           .row_slots = Repeat(0, 2) + Repeat(1, 7) + Repeat(0, 1)},
          1);
    }
  }
}

// A chunk's end within, at and behind a warp's columns; slices of many chunks.
TYPED_TEST(LoraTest, Columns) {
  for (const Slices& columns :
       {Slices{8, 128, 136}, Slices{264, 0, 32}, Slices{0, 8, 600}}) {
    for (const int32_t rank : {8, 16, 64}) {
      ExpectBoth<TypeParam>({.columns = columns,
                             .ranks = {{rank, rank, 8}, {0, 0, rank}},
                             .row_slots = {0, 1, 0, 1, 1, 1, 1, 1, 1}},
                            1);
    }
  }
}

// So many tiles that a block has all ranks, and long chunks of columns.
TYPED_TEST(LoraTest, BlocksWithMuchWork) {
  ExpectBoth<TypeParam>({.splits = 1,
                         .columns = {584, 72, 1040},
                         .ranks = {{40, 48, 16}, {8, 256, 24}},
                         .row_slots = Repeat(1, 20) + Repeat(0, 1),
                         .has_weights = false,
                         .extra_tiles = 1020},
                        1);
  ExpectBoth<TypeParam>({.splits = 1,
                         .columns = {584, 72, 1040},
                         .ranks = {{40, 48, 16}, {64, 0, 24}},
                         .row_slots = Repeat(1, 3) + Repeat(0, 2),
                         .extra_tiles = 160},
                        1);
}

TYPED_TEST(LoraTest, ManyAdapters) {
  Case c = {.in = 200, .splits = 4};
  std::mt19937 random(5);
  for (int32_t i = 0; i < 64; ++i) {
    Slices ranks;
    for (int32_t& rank : ranks) {
      rank = random() % 4 == 0 ? 0 : static_cast<int32_t>(1 + random() % 40);
    }
    if (i % 9 == 0) ranks = {0, 0, 0};
    c.ranks.push_back(ranks);
  }
  c.row_slots = Repeat(kCudaNoSlot, 2);
  for (int32_t i = 63; i >= 0; --i) c.row_slots.push_back(i);
  ExpectBoth<TypeParam>(c, 1);
  for (int32_t& slot : c.row_slots) {
    slot = static_cast<int32_t>(random() % 9) - 1;
  }
  ExpectBoth<TypeParam>(c, 1);
}

// Rows so far apart that the row in front of the first one can't be read.
TYPED_TEST(LoraTest, NoRowIsBeforeTheFirst) {
  for (const int32_t rows : {1, 3, 9}) {
    SCOPED_TRACE(rows);
    ExpectBoth<TypeParam>(
        {.ranks = {{8, 8, 40}}, .row_slots = Repeat(0, rows), .gap = 4096}, 1);
  }
}

TYPED_TEST(LoraTest, NothingToDo) {
  ExpectBoth<TypeParam>({.row_slots = Repeat(kCudaNoSlot, 3), .extra_tiles = 0},
                        1);
  ExpectBoth<TypeParam>(
      {.columns = {0, 0, 0}, .ranks = {{8, 8, 8}}, .row_slots = Repeat(0, 2)},
      1);
}

TYPED_TEST(LoraTest, NoAdapters) {
  ExpectBoth<TypeParam>({.row_slots = Repeat(kCudaNoSlot, 3)});
  ExpectBoth<TypeParam>(
      {.ranks = {{0, 0, 0}}, .row_slots = Repeat(0, 3) + Repeat(0, 9)});
}

TYPED_TEST(LoraTest, FromRouteToOutput) {
  Case c = {.in = 328,
            .splits = 3,
            .columns = {136, 40, 40},
            .ranks = {{16, 16, 16}, {64, 0, 64}, {1, 256, 0}, {0, 8, 8}}};
  c.row_slots = {2, -1, 0, 1, 1, 0, 3, 0, -1, 0, 0, 3, 0};
  c.row_slots = c.row_slots + Repeat(1, 15) + Repeat(0, 12);
  for (uint32_t seed = 1; seed < 4; ++seed) {
    cuda_emulation::SetSeed(seed);
    Layer<TypeParam> layer(c, seed);
    GuardedArray<int32_t> row_slots(c.row_slots);
    std::fill(layer.tiles().slots.begin(), layer.tiles().slots.end(), -9);
    std::fill(layer.tiles().rows.begin(), layer.tiles().rows.end(), -9);
    ASSERT_TRUE(Route({.row_slots = row_slots.data(),
                       .rows = static_cast<int32_t>(c.row_slots.size()),
                       .slots = static_cast<int32_t>(c.ranks.size()),
                       .tiles = layer.tiles().Args()})
                    .ok());
    layer.RunShrink();
    layer.RunExpand();
    layer.ExpectWhole();
    if (testing::Test::HasFailure()) return;
  }
}

// Planes are added in order, the scale is applied to their sum, and the result
// is rounded once: with a unit for B and zeros in y it is what y becomes.
TYPED_TEST(LoraTest, HiddenValuesAreSumsInOrder) {
  for (const int32_t rows : {1, 2, 4, 6}) {
    Layer<TypeParam> layer({.splits = 5,
                            .columns = {24, 0, 0},
                            .ranks = {{24, 0, 0}},
                            .row_slots = Repeat(0, rows),
                            .has_weights = false});
    for (size_t i = 0; i < 24 * 24; ++i) {
      layer.adapters()[0].b[0][i] =
          FromFloat<TypeParam>(i / 24 == i % 24 ? 1 : 0);
    }
    layer.FillPlanes();
    const float parts[5] = {1e8f, 3.25f, -1e8f, 1.5f, 0.01f};
    auto* y = const_cast<TypeParam*>(layer.y().data());
    for (size_t i = 0; i < layer.y().size(); ++i) y[i] = {0};
    for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
      for (int32_t r = 0; r < 24; ++r) {
        for (int32_t split = 0; split < 5; ++split) {
          *layer.Plane(split, row, r) =
              parts[split] * (1 + static_cast<float>(r) / 64);
        }
      }
    }
    layer.RunExpand();
    for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
      for (int32_t r = 0; r < 24; ++r) {
        float sum = 0;
        for (int32_t split = 0; split < 5; ++split) {
          sum += *layer.Plane(split, row, r);
        }
        const TypeParam want = FromFloat<TypeParam>(
            sum * layer.adapters()[0].scale[static_cast<size_t>(r)]);
        const TypeParam got = y[static_cast<int64_t>(row) * layer.y_stride() +
                                layer.slice_begin(0) + r];
        ASSERT_TRUE(SameBits(want, got)) << row << ", " << r;
      }
    }
  }
}

// The last of the rows has the same x whatever the others are.
template <typename Half>
std::vector<Half> LastRow(const Case& c, uint32_t others) {
  Layer<Half> layer(c);
  std::mt19937 random(others);
  GuardedArray<Half>& x = layer.x();
  const auto begin = static_cast<size_t>(
      layer.x_stride() * static_cast<int64_t>(c.row_slots.size() - 1));
  for (size_t i = 0; i < begin; ++i) {
    x[i] = FromFloat<Half>(static_cast<float>(random() % 64) - 32);
  }
  for (size_t i = begin; i < x.size(); ++i) {
    x[i] = FromFloat<Half>(std::sin(static_cast<float>(i - begin)));
  }
  auto* y =
      const_cast<Half*>(layer.y().data() + layer.y().size() - layer.y_stride());
  for (int64_t i = 0; i < layer.y_stride(); ++i) y[i] = {0};
  layer.RunShrink();
  layer.RunExpand();
  return {y, y + layer.y_stride()};
}

TYPED_TEST(LoraTest, ARowIsTheSameInEveryBatch) {
  Case c = {.in = 1096,
            .splits = 3,
            .columns = {136, 24, 24},
            .ranks = {{72, 8, 16}, {40, 0, 0}},
            .has_weights = false};
  const auto last_row = [&](const std::vector<int32_t>& others,
                            int32_t extra_tiles = 0) {
    c.row_slots = others + std::vector<int32_t>{0};
    c.extra_tiles = extra_tiles;
    return LastRow<TypeParam>(c, static_cast<uint32_t>(others.size()));
  };
  const auto same = [](const std::vector<TypeParam>& a,
                       const std::vector<TypeParam>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(TypeParam)) == 0;
  };
  const std::vector<TypeParam> alone = last_row({});
  EXPECT_TRUE(same(alone, last_row({0})));
  EXPECT_TRUE(same(alone, last_row({0, 0})));
  EXPECT_TRUE(same(alone, last_row({0, 0, 0})));
  EXPECT_TRUE(same(alone, last_row(Repeat(1, 9) + Repeat(-1, 3))));
  EXPECT_TRUE(same(alone, last_row(Repeat(0, 16))));
  EXPECT_TRUE(same(alone, last_row({}, 600)));
  static_assert(kLoraGemvRows == 4);
  const std::vector<TypeParam> in_tile = last_row(Repeat(0, 4));
  EXPECT_TRUE(same(in_tile, last_row(Repeat(0, 7))));
  EXPECT_TRUE(same(in_tile, last_row(Repeat(0, 15) + Repeat(1, 2))));
  EXPECT_TRUE(same(in_tile, last_row(Repeat(0, 28), 600)));
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
