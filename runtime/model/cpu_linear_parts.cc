#include "runtime/model/cpu_linear_parts.h"

#include "runtime/kernels/kernels.h"

namespace descant {

using kernels::kColumnBlock;

std::vector<LinearPart> QkvParts(const CpuShape& shape) {
  const int64_t key = shape.q_width / kColumnBlock;
  const int64_t value = key + shape.kv_width / kColumnBlock;
  return {{WeightKind::kQuery, WeightKind::kQueryBias},
          {WeightKind::kKey, WeightKind::kKeyBias, key},
          {WeightKind::kValue, WeightKind::kValueBias, value}};
}

std::vector<LinearPart> OutParts() {
  return {{WeightKind::kAttentionOut, WeightKind::kAttentionOutBias}};
}

// A block of gate, a block of up, a block of gate, ...; or up alone.
std::vector<LinearPart> GateUpParts(const CpuShape& shape) {
  const int32_t slices = shape.mlp_slices;
  std::vector<LinearPart> parts;
  if (slices == 2) {
    parts.push_back({WeightKind::kGate, WeightKind::kGateBias, 0, slices});
  }
  parts.push_back({WeightKind::kUp, WeightKind::kUpBias, slices - 1, slices});
  return parts;
}

std::vector<LinearPart> DownParts() {
  return {{WeightKind::kDown, WeightKind::kDownBias}};
}

std::vector<kernels::SharedItems> SharesOf(const CpuShape& shape,
                                           const CpuLayerWeights& layer) {
  const auto share = [](const CpuLinear& linear, int64_t width, int64_t each) {
    return kernels::SharedItems{linear.blocks, width / kColumnBlock,
                                each * linear.block_bytes};
  };
  return {share(layer.qkv, shape.qkv_width, 1),
          share(layer.out, shape.hidden_width, 1),
          share(layer.gate_up, shape.mlp_width, shape.mlp_slices),
          share(layer.down, shape.hidden_width, 1)};
}

}  // namespace descant
