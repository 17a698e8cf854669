// What a measurement was taken on, and the most that the machine gives: the
// bounds that benches hold their figures against. Measured, never looked up.
#ifndef DESCANT_TESTS_BENCH_MACHINE_MACHINE_H_
#define DESCANT_TESTS_BENCH_MACHINE_MACHINE_H_

#include <string>

#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/worker_pool.h"

namespace descant::bench {

struct Machine {
  std::string cpu;     // /proc/cpuinfo's model name
  int cores = 0;       // that this process may use
  std::string commit;  // of the working directory, "-dirty" when changed
  std::string date;    // UTC, ISO 8601
};

Machine DescribeMachine();

// Bytes a second that all workers together read from memory: the best of
// several passes over a region on huge pages, far larger than the last cache,
// each worker reading a share of its own, with several patterns of access.
// Takes about half a second.
double MeasureReadBandwidth(kernels::WorkerPool* pool);

// Operations a second (a multiplication and an addition are two) of all
// workers together, registers only. Zero where the set has no such
// instruction.
struct Peak {
  double fp32 = 0;  // FMA of the widest vectors
  double bf16 = 0;  // vdpbf16ps or tdpbf16ps; AVX2, which has none: FMA
  double int8 = 0;  // vpdpbusd or tdpbusd
};

// REQUIRES: the machine has `isa`.
Peak MeasurePeak(kernels::CpuIsa isa, kernels::WorkerPool* pool);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_MACHINE_MACHINE_H_
