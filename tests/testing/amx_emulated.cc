#include "tests/testing/amx_emulated.h"

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace descant::kernels {
namespace {

#include "tests/testing/amx_emulation.h"
// After the tiles.
#include "runtime/kernels/cpu/kernels_amx.inc"

// Tiles 0 and 1 of 16 rows of 64 bytes, 2 of 16 rows of 32 bytes, 3 of 8 rows
// of 64 bytes; the rest empty.
TileConfig SomeTiles() {
  TileConfig config = {};
  config.palette = 1;
  for (int i = 0; i < 4; ++i) {
    config.rows[i] = i == 3 ? 8 : 16;
    config.bytes[i] = i == 2 ? 32 : 64;
  }
  return config;
}

void ZeroSomeTiles() {
  TileConfigure(SomeTiles());
  TileZero<0>();
  TileZero<1>();
  TileZero<2>();
  TileZero<3>();
}

}  // namespace

const AmxKernels kEmulatedAmxKernels = kTileKernels;

int64_t EmulatedConfigurations() { return emulated_configurations; }

bool EmulatedTilesInUse() { return emulated.configured; }

void MisuseTiles(TileMisuse misuse) {
  TileConfig config = SomeTiles();
  switch (misuse) {
    case TileMisuse::kPalette:
      config.palette = 2;
      return TileConfigure(config);
    case TileMisuse::kReservedByte:
      config.reserved[13] = 1;
      return TileConfigure(config);
    case TileMisuse::kRows:
      config.rows[1] = 17;
      return TileConfigure(config);
    case TileMisuse::kBytes:
      config.bytes[1] = 68;
      return TileConfigure(config);
    case TileMisuse::kNinthTile:
      config.rows[8] = 1;
      config.bytes[8] = 4;
      return TileConfigure(config);
    case TileMisuse::kHalfEmpty:
      config.bytes[0] = 0;
      return TileConfigure(config);
    case TileMisuse::kNotConfigured:
      TileRelease();
      return TileZero<0>();
    case TileMisuse::kEmptyTile:
      TileConfigure(config);
      return TileZero<7>();
    case TileMisuse::kSameOperands:
      ZeroSomeTiles();
      return TileDotBf16<0, 1, 1>();
    case TileMisuse::kColumnsOfCAndB:
      ZeroSomeTiles();
      return TileDotU8S8<2, 0, 1>();
    case TileMisuse::kRowsOfCAndA:
      ZeroSomeTiles();
      return TileDotBf16<3, 0, 1>();
    case TileMisuse::kInnerSizes:
      ZeroSomeTiles();
      return TileDotU8S8<0, 2, 1>();
  }
}

}  // namespace descant::kernels
