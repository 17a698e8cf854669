// What a step must at least read and compute, by phase: the roofline of
// step_bench.
#ifndef DESCANT_TESTS_BENCH_STEP_COST_H_
#define DESCANT_TESTS_BENCH_STEP_COST_H_

#include <array>
#include <cstdint>

#include "runtime/core/batch.h"
#include "runtime/model/cpu_phase_timer.h"
#include "runtime/model/model_config.h"

namespace descant::bench {

// Bytes that come from memory once (weights, adapters, KV cache; activations
// stay in the caches), and operations (a multiplication and an addition are
// two).
struct Work {
  double bytes = 0;
  double operations = 0;

  Work& operator+=(const Work& other) {
    bytes += other.bytes;
    operations += other.operations;
    return *this;
  }
};

// What the machine gives: bytes and operations a second.
struct Bounds {
  double read = 0;
  double compute = 0;  // of the base weights' type
};

// Whichever takes longer, in milliseconds.
double BoundMs(const Work& work, const Bounds& bounds);

// Shape of all adapters of a batch; rank 0: none.
struct AdapterCost {
  int32_t rank = 0;
  bool all_linear = false;     // else q and v
  double bytes_per_value = 2;  // in memory
};

struct StepCost {
  std::array<Work, kCpuPhases> phases;

  Work Total() const;
  const Work& of(CpuPhase phase) const {
    return phases[static_cast<int32_t>(phase)];
  }
};

// Values of the base model's matrices, the head among them, embedding and norms
// not.
double BaseValues(const ModelConfig& config);

// `weight_bytes`: of one value of the base weights, on average. LoRA's B is
// booked under the module that it is added to, as its time is.
StepCost CostOf(const ModelConfig& config, double weight_bytes,
                const AdapterCost& adapters, const Batch& batch);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_STEP_COST_H_
