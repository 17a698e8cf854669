// Tiles of rows as the route kernel has to make them, made by the host.
#ifndef DESCANT_TESTS_RUNTIME_KERNELS_CUDA_LORA_TILES_H_
#define DESCANT_TESTS_RUNTIME_KERNELS_CUDA_LORA_TILES_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "runtime/kernels/cuda/cuda_kernels.h"
#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels {

struct HostTiles {
  cuda_emulation::GuardedArray<int32_t> slots;
  cuda_emulation::GuardedArray<int32_t> rows;

  explicit HostTiles(int32_t max_tiles)
      : slots(static_cast<size_t>(max_tiles)),
        rows(static_cast<size_t>(max_tiles) * kLoraTileRows) {}
  LoraTiles Args() {
    return {slots.data(), rows.data(), static_cast<int32_t>(slots.size())};
  }
};

inline HostTiles MakeHostTiles(const std::vector<int32_t>& row_slots,
                               int32_t slots, int32_t max_tiles) {
  std::map<int32_t, std::vector<int32_t>> of_slot;
  for (size_t row = 0; row < row_slots.size(); ++row) {
    if (row_slots[row] < 0 || row_slots[row] >= slots) continue;
    of_slot[row_slots[row]].push_back(static_cast<int32_t>(row));
  }
  HostTiles tiles(max_tiles);
  std::fill(tiles.slots.begin(), tiles.slots.end(), kCudaNoSlot);
  std::fill(tiles.rows.begin(), tiles.rows.end(), -1);
  size_t tile = 0;
  for (const auto& [slot, rows] : of_slot) {
    for (size_t i = 0; i < rows.size(); ++i) {
      if (i % kLoraTileRows == 0) tiles.slots[tile++] = slot;
      tiles.rows[(tile - 1) * kLoraTileRows + i % kLoraTileRows] = rows[i];
    }
  }
  return tiles;
}

}  // namespace descant::kernels

#endif  // DESCANT_TESTS_RUNTIME_KERNELS_CUDA_LORA_TILES_H_
