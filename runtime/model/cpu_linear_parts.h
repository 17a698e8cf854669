// Which tensors a packed linear module of the CPU runner is made of.
#ifndef DESCANT_RUNTIME_MODEL_CPU_LINEAR_PARTS_H_
#define DESCANT_RUNTIME_MODEL_CPU_LINEAR_PARTS_H_

#include <cstdint>
#include <vector>

#include "runtime/kernels/numa.h"
#include "runtime/model/cpu_runner_weights.h"
#include "runtime/model/weight_source.h"

namespace descant {

// A tensor's rows, 32 at a time, are every `step`-th block of the module, from
// block `first` on; its bias has the same places.
struct LinearPart {
  WeightKind weight;
  WeightKind bias;
  int64_t first = 0;
  int32_t step = 1;
};

std::vector<LinearPart> QkvParts(const CpuShape& shape);
std::vector<LinearPart> OutParts();
std::vector<LinearPart> GateUpParts(const CpuShape& shape);
std::vector<LinearPart> DownParts();

// How the workers share the blocks of a layer's modules.
std::vector<kernels::SharedItems> SharesOf(const CpuShape& shape,
                                           const CpuLayerWeights& layer);

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CPU_LINEAR_PARTS_H_
