// LoRA's kernels against plain loops.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "runtime/model/cuda_self_test_arrays.h"

namespace descant {
namespace {

using kernels::CudaKernels;
using kernels::kCudaNoSlot;
using kernels::kLoraTileRows;
using kernels::LoraSlot;
using kernels::LoraTiles;

// Rows of three slots between others': one tile that is full and one of a
// single row, one of few rows, and none of slot 1.
constexpr int32_t kSlots = 3;
std::vector<int32_t> RowSlots() {
  std::vector<int32_t> slots = {2, kCudaNoSlot, 0};
  slots.insert(slots.end(), kLoraTileRows, 2);
  slots.insert(slots.end(), {kCudaNoSlot, 0});
  return slots;
}

struct HostTiles {
  std::vector<int32_t> slots;
  std::vector<int32_t> rows;
};

HostTiles TilesOf(const std::vector<int32_t>& row_slots) {
  const auto rows = static_cast<int32_t>(row_slots.size());
  HostTiles tiles;
  for (int32_t slot = 0; slot < kSlots; ++slot) {
    int32_t in_tile = kLoraTileRows;
    for (int32_t row = 0; row < rows; ++row) {
      if (row_slots[row] != slot) continue;
      if (in_tile == kLoraTileRows) {
        tiles.slots.push_back(slot);
        tiles.rows.resize(tiles.rows.size() + kLoraTileRows, -1);
        in_tile = 0;
      }
      tiles.rows[tiles.rows.size() - kLoraTileRows + in_tile++] = row;
    }
  }
  tiles.slots.resize(kernels::MaxLoraTiles(rows, kSlots), kCudaNoSlot);
  tiles.rows.resize(tiles.slots.size() * kLoraTileRows, -1);
  return tiles;
}

LoraTiles Upload(const HostTiles& tiles, CudaTestArrays* arrays) {
  return {arrays->Upload(tiles.slots), arrays->Upload(tiles.rows),
          static_cast<int32_t>(tiles.slots.size())};
}

// Ranks of two slices, padded; slot 1 is empty.
constexpr int32_t kRanks[kSlots][2] = {{8, 16}, {0, 0}, {40, 0}};
constexpr int32_t kPlaneStride = 40;
constexpr int32_t kColumns[2] = {40, 24};
constexpr int32_t kIn = 200;

int32_t RankOf(int32_t slot) { return kRanks[slot][0] + kRanks[slot][1]; }

// On the host, and where they are on the device.
struct Site {
  std::vector<uint16_t> a[kSlots];     // [rank, in]
  std::vector<float> scale[kSlots];    // [rank]
  std::vector<uint16_t> b[kSlots][2];  // [columns, rank of the slice]
  const LoraSlot* slots = nullptr;
};

Site MakeSite(CudaTestArrays* arrays) {
  SelfTestValues values(5);
  Site site;
  std::vector<LoraSlot> slots(kSlots);
  for (int32_t s = 0; s < kSlots; ++s) {
    if (RankOf(s) == 0) continue;
    site.a[s] = arrays->Halves(RankOf(s) * kIn, &values);
    site.scale[s] = values.Floats(RankOf(s));
    slots[s].a = arrays->Upload(site.a[s]);
    slots[s].scale = arrays->Upload(site.scale[s]);
    slots[s].rank = RankOf(s);
    for (int32_t i = 0; i < 2; ++i) {
      slots[s].slices[i].rank = kRanks[s][i];
      slots[s].slices[i].rank_begin = i == 0 ? 0 : kRanks[s][0];
      if (kRanks[s][i] == 0) continue;
      site.b[s][i] = arrays->Halves(kColumns[i] * kRanks[s][i], &values);
      slots[s].slices[i].b = arrays->Upload(site.b[s][i]);
    }
  }
  site.slots = arrays->Upload(slots);
  return site;
}

// The planes of one row, added.
float HiddenOf(const std::vector<float>& planes, size_t places, size_t place,
               int32_t splits, int32_t r) {
  float sum = 0;
  for (int32_t split = 0; split < splits; ++split) {
    sum += planes[(split * places + place) * kPlaneStride + r];
  }
  return sum;
}

}  // namespace

void CheckRoute(const CudaKernels& kernels, CudaTestArrays* arrays,
                LargestDifference* difference) {
  const auto row_slots = RowSlots();
  const HostTiles wanted = TilesOf(row_slots);
  HostTiles before = wanted;
  std::fill(before.slots.begin(), before.slots.end(), 77);
  std::fill(before.rows.begin(), before.rows.end(), 77);
  const LoraTiles tiles = Upload(before, arrays);
  arrays->Launch(kernels.route, {.row_slots = arrays->Upload(row_slots),
                                 .rows = static_cast<int32_t>(row_slots.size()),
                                 .slots = kSlots,
                                 .tiles = tiles,
                                 .stream = arrays->stream()});
  const auto slots = arrays->Download(tiles.slots, wanted.slots.size());
  const auto rows = arrays->Download(tiles.rows, wanted.rows.size());
  for (size_t tile = 0; tile < slots.size(); ++tile) {
    difference->Add(wanted.slots[tile], slots[tile], 1);
    // Rows of tiles that nobody has mean nothing.
    if (wanted.slots[tile] == kCudaNoSlot) continue;
    for (int32_t i = 0; i < kLoraTileRows; ++i) {
      const size_t at = tile * kLoraTileRows + i;
      difference->Add(wanted.rows[at], rows[at], 1);
    }
  }
}

void CheckShrink(const CudaKernels& kernels, CudaTestArrays* arrays,
                 LargestDifference* difference) {
  const auto row_slots = RowSlots();
  const HostTiles tiles = TilesOf(row_slots);
  const Site site = MakeSite(arrays);
  SelfTestValues values(6);
  const auto x = arrays->Halves(row_slots.size() * kIn, &values);
  const size_t places = tiles.rows.size();
  for (const int32_t splits : {1, 3}) {
    float* const planes = arrays->Zeros<float>(splits * places * kPlaneStride);
    arrays->Launch(kernels.shrink, {.x = arrays->Upload(x),
                                    .x_stride = kIn,
                                    .in = kIn,
                                    .slots = site.slots,
                                    .tiles = Upload(tiles, arrays),
                                    .planes = planes,
                                    .plane_stride = kPlaneStride,
                                    .splits = splits,
                                    .stream = arrays->stream()});
    const auto got = arrays->Download(planes, splits * places * kPlaneStride);
    const int32_t span = kernels::ShrinkSpan(kIn, splits);
    for (size_t i = 0; i < places * splits; ++i) {
      const size_t place = i % places;
      if (tiles.rows[place] < 0) continue;
      const auto split = static_cast<int32_t>(i / places);
      const int32_t slot = tiles.slots[place / kLoraTileRows];
      for (int32_t r = 0; r < RankOf(slot); ++r) {
        double sum = 0, size = 1;
        for (int32_t k = std::min(split * span, kIn);
             k < std::min((split + 1) * span, kIn); ++k) {
          const double term =
              double{arrays->Float(x[tiles.rows[place] * kIn + k])} *
              arrays->Float(site.a[slot][r * kIn + k]);
          sum += term;
          size += std::abs(term);
        }
        difference->Add(sum, got[i * kPlaneStride + r], size);
      }
    }
  }
}

void CheckExpand(const CudaKernels& kernels, CudaTestArrays* arrays,
                 LargestDifference* difference) {
  constexpr int32_t kSplits = 2, kStride = 80;
  constexpr int32_t kBegin[2] = {8, 56};
  const auto row_slots = RowSlots();
  const HostTiles tiles = TilesOf(row_slots);
  const Site site = MakeSite(arrays);
  SelfTestValues values(7);
  const size_t places = tiles.rows.size();
  const auto planes = values.Floats(kSplits * places * kPlaneStride);
  const auto weights = values.Floats(row_slots.size());
  const auto before = arrays->Halves(row_slots.size() * kStride, &values);
  auto* const y = arrays->Upload(before);
  arrays->Launch(kernels.expand, {.planes = arrays->Upload(planes),
                                  .plane_stride = kPlaneStride,
                                  .splits = kSplits,
                                  .slots = site.slots,
                                  .tiles = Upload(tiles, arrays),
                                  .row_weights = arrays->Upload(weights),
                                  .y = y,
                                  .y_stride = kStride,
                                  .slices = 2,
                                  .slice_begin = {kBegin[0], kBegin[1]},
                                  .slice_columns = {kColumns[0], kColumns[1]},
                                  .stream = arrays->stream()});
  const auto got = arrays->Download(y, before.size());
  std::vector<double> wanted, size;
  for (const uint16_t half : before) {
    wanted.push_back(arrays->Float(half));
    size.push_back(1 + std::abs(wanted.back()));
  }
  for (size_t place = 0; place < places; ++place) {
    const int32_t row = tiles.rows[place];
    if (row < 0) continue;
    const int32_t slot = tiles.slots[place / kLoraTileRows];
    for (int32_t i = 0; i < 2; ++i) {
      const int32_t rank = kRanks[slot][i],
                    begin = i == 0 ? 0 : kRanks[slot][0];
      for (int32_t c = 0; c < kColumns[i] && rank > 0; ++c) {
        const size_t at = row * kStride + kBegin[i] + c;
        for (int32_t r = 0; r < rank; ++r) {
          const float h = site.scale[slot][begin + r] *
                          HiddenOf(planes, places, place, kSplits, begin + r);
          const double term = double{weights[row]} *
                              arrays->Float(arrays->Half(h)) *
                              arrays->Float(site.b[slot][i][c * rank + r]);
          wanted[at] += term;
          size[at] += std::abs(term);
        }
      }
    }
  }
  for (size_t i = 0; i < got.size(); ++i) {
    difference->Add(wanted[i], arrays->Float(got[i]), size[i]);
  }
}

}  // namespace descant
