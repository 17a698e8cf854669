// The kernels of AMX over an emulation of its instructions
// (amx_emulation.h). They need AVX-512 with BF16 of the machine, not AMX.
#ifndef DESCANT_TESTS_TESTING_AMX_EMULATED_H_
#define DESCANT_TESTS_TESTING_AMX_EMULATED_H_

#include <cstdint>

#include "runtime/kernels/cpu/variants.h"

namespace descant::kernels {

extern const AmxKernels kEmulatedAmxKernels;

// How often the calling thread configured its tiles.
int64_t EmulatedConfigurations();

// Whether the calling thread's tiles are configured.
bool EmulatedTilesInUse();

// Does one thing that the processor refuses, for tests of the emulation.
enum class TileMisuse {
  kPalette,
  kReservedByte,
  kRows,
  kBytes,
  kNinthTile,
  kHalfEmpty,
  kNotConfigured,
  kEmptyTile,
  kSameOperands,
  kColumnsOfCAndB,
  kRowsOfCAndA,
  kInnerSizes,
};
void MisuseTiles(TileMisuse misuse);

}  // namespace descant::kernels

#endif  // DESCANT_TESTS_TESTING_AMX_EMULATED_H_
