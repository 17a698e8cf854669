#include "runtime/model/cuda_graphs.h"

#include <cstdint>
#include <utility>

#include "runtime/base/check.h"

namespace descant {
namespace {

// Graphs are kept for so many shapes of one set of weights, and of all sets: so
// the base's leave room for those of a merged adapter.
constexpr size_t kMaxGraphs = 256;
constexpr size_t kMaxGraphsOfAll = 384;
constexpr size_t kMaxShapesSeen = 4096;
// Steps of more rows are bound by arithmetic: launches are hidden behind it.
constexpr int32_t kMaxGraphRows = 512;

}  // namespace

void CudaGraphs::DropDead() {
  std::erase_if(by_weights_,
                [](const auto& entry) { return entry.first.expired(); });
}

const CudaGraphs::Pieces* CudaGraphs::Find(const Weights& weights,
                                           const CudaStepShape& shape) const {
  const auto of_weights = by_weights_.find(weights);
  if (of_weights == by_weights_.end()) return nullptr;
  const auto at = of_weights->second.captured.find(shape);
  return at == of_weights->second.captured.end() ? nullptr : &at->second;
}

bool CudaGraphs::IsWorthCapturing(const Weights& weights,
                                  const CudaStepShape& shape) {
  if (shape.rows > kMaxGraphRows || size() >= kMaxGraphsOfAll) return false;
  OfWeights& of_weights = by_weights_[weights];
  if (of_weights.captured.size() >= kMaxGraphs ||
      of_weights.seen.size() >= kMaxShapesSeen) {
    return false;
  }
  return !of_weights.seen.insert(shape).second;
}

const CudaGraphs::Pieces* CudaGraphs::Keep(const Weights& weights,
                                           const CudaStepShape& shape,
                                           Pieces pieces) {
  const auto [at, is_new] =
      by_weights_[weights].captured.emplace(shape, std::move(pieces));
  DESCANT_CHECK(is_new);
  return &at->second;
}

size_t CudaGraphs::size() const {
  size_t count = 0;
  for (const auto& [weights, of_weights] : by_weights_) {
    count += of_weights.captured.size();
  }
  return count;
}

}  // namespace descant
