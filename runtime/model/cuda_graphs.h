// Which steps the CUDA runner has captured, by the weights and the shape that
// they had. A graph holds addresses of weights: it goes when they go.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_GRAPHS_H_
#define DESCANT_RUNTIME_MODEL_CUDA_GRAPHS_H_

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "runtime/model/cuda_step_plan.h"
#include "runtime/model/cuda_weights.h"
#include "runtime/model/device.h"

namespace descant {

// Used by the engine thread; the last owner of weights may let them go on any
// other, but not while a step uses them.
class CudaGraphs {
 public:
  using Weights = std::shared_ptr<const CudaWeights>;
  using Pieces = std::vector<std::unique_ptr<DeviceGraph>>;

  // Drops those of weights that are gone.
  void DropDead();

  // Null: none.
  const Pieces* Find(const Weights& weights, const CudaStepShape& shape) const;

  // Whether to capture it now: it comes again, and there is room. Remembers
  // that it came.
  bool IsWorthCapturing(const Weights& weights, const CudaStepShape& shape);

  // Valid until DropDead finds `weights` gone. REQUIRES: not there yet.
  const Pieces* Keep(const Weights& weights, const CudaStepShape& shape,
                     Pieces pieces);

  // Shapes that are captured, over all weights.
  size_t size() const;

 private:
  struct OfWeights {
    std::map<CudaStepShape, Pieces> captured;
    std::set<CudaStepShape> seen;
  };

  // Keys are compared by what owns them, which the entry keeps from being used
  // again: other weights at the same address are another key.
  std::map<std::weak_ptr<const CudaWeights>, OfWeights, std::owner_less<>>
      by_weights_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_GRAPHS_H_
