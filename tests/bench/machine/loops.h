// Loops that do one thing as fast as a core can. Each runs only where its
// instruction set is. Internal to machine.cc.
#ifndef DESCANT_TESTS_BENCH_MACHINE_LOOPS_H_
#define DESCANT_TESTS_BENCH_MACHINE_LOOPS_H_

#include <cstdint>

namespace descant::bench {

// Returns something that depends on every operation.
struct PeakLoop {
  uint64_t (*run)(int64_t rounds);
  double operations;  // of one round
};

extern const PeakLoop kFp32Avx2;
extern const PeakLoop kFp32Avx512;
extern const PeakLoop kBf16Avx512;
extern const PeakLoop kInt8Avx512;
extern const PeakLoop kBf16Amx;
extern const PeakLoop kInt8Amx;

// Reads [data, data + bytes) in `streams` runs side by side, asking for each
// line `ahead` bytes before it is read (0: not). `bytes` is a multiple of
// 64 * 8 * streams; streams is 1 or 4.
using ReadLoop = uint64_t (*)(const void* data, int64_t bytes, int streams,
                              int64_t ahead);
uint64_t ReadScalar(const void* data, int64_t bytes, int streams,
                    int64_t ahead);
uint64_t ReadAvx2(const void* data, int64_t bytes, int streams, int64_t ahead);
uint64_t ReadAvx512(const void* data, int64_t bytes, int streams,
                    int64_t ahead);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_MACHINE_LOOPS_H_
