#include "runtime/model/cpu_merged_weights.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "adapters/adapter.h"
#include "runtime/base/pacing.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/numa.h"
#include "runtime/model/adapter_sites.h"
#include "runtime/model/cpu_linear_parts.h"
#include "runtime/model/merged_weight_source.h"

namespace descant {
namespace {

using kernels::kColumnBlock;

// A module of a layer, its parts, and its blocks in the merged weights.
struct MergedLinear {
  CpuLinear CpuLayerWeights::*linear;
  int64_t blocks;
  std::vector<LinearPart> parts;
  LoraSite site;
};

std::vector<MergedLinear> LinearsOf(const CpuShape& shape) {
  const int64_t hidden = shape.hidden_width / kColumnBlock;
  return {{&CpuLayerWeights::qkv, shape.qkv_width / kColumnBlock,
           QkvParts(shape), LoraSite::kQkv},
          {&CpuLayerWeights::out, hidden, OutParts(), LoraSite::kOut},
          {&CpuLayerWeights::gate_up,
           int64_t{shape.mlp_slices} * shape.mlp_width / kColumnBlock,
           GateUpParts(shape), LoraSite::kGateUp},
          {&CpuLayerWeights::down, hidden, DownParts(), LoraSite::kDown}};
}

// Visits (layer, module) that the adapter changes, in order.
template <typename Visit>  // void(int32_t layer, const MergedLinear&)
void ForEachChanged(const ModelConfig& config, const CpuShape& shape,
                    const Adapter& adapter, const Visit& visit) {
  const std::vector<MergedLinear> linears = LinearsOf(shape);
  size_t next = 0;
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    const LayerModules modules = TakeLayer(config, adapter, layer, &next);
    for (const MergedLinear& linear : linears) {
      if (SiteInputs(modules.at[static_cast<int32_t>(linear.site)]) != 0) {
        visit(layer, linear);
      }
    }
  }
}

// The blocks of one part: packed anew where it is merged, else the base's.
absl::Status PackPart(const ModelConfig& config,
                      const MergedWeightSource& source, const LinearPart& part,
                      int32_t layer, const CpuLinear& base, std::byte* blocks,
                      PackScratch* scratch) {
  const WeightShape size = ShapeOf(config, part.weight);
  const bool merged = source.IsMerged(part.weight, layer);
  for (int64_t row = 0; row < size.rows; row += kColumnBlock) {
    const int64_t at =
        (part.first + row / kColumnBlock * part.step) * base.block_bytes;
    if (!merged) {
      std::memcpy(blocks + at, base.blocks + at, base.block_bytes);
      continue;
    }
    const auto rows =
        static_cast<int32_t>(std::min<int64_t>(kColumnBlock, size.rows - row));
    DESCANT_RETURN_IF_ERROR(
        base.format->pack(source, {part.weight, layer, row, rows, size.columns},
                          scratch, blocks + at));
    Breathe();
  }
  return absl::OkStatus();
}

// REQUIRES: nobody touched the arena.
void PlaceLayers(const CpuShape& shape,
                 const std::vector<CpuLayerWeights>& layers,
                 const kernels::WorkerPool& pool, const kernels::Arena& arena) {
  if (!kernels::NumaNodes::OfMachine().several()) return;
  std::vector<kernels::SharedItems> shares;
  for (const CpuLayerWeights& layer : layers) {
    for (const kernels::SharedItems& share : SharesOf(shape, layer)) {
      if (share.begin >= arena.data() &&
          share.begin < arena.data() + arena.size()) {
        shares.push_back(share);
      }
    }
  }
  std::vector<int32_t> nodes;
  for (int32_t worker = 0; worker < pool.size(); ++worker) {
    nodes.push_back(pool.NodeOf(worker));
  }
  kernels::PlaceNearWorkers(shares, nodes, arena.data(), arena.size(),
                            kernels::Arena::kPageBytes);
}

}  // namespace

uint64_t CpuMergedWeights::Bytes(const ModelConfig& config,
                                 const CpuWeights& base,
                                 const Adapter& adapter) {
  uint64_t bytes = 0;
  ForEachChanged(config, base.shape(), adapter,
                 [&](int32_t layer, const MergedLinear& linear) {
                   bytes += linear.blocks *
                            (base.layer(layer).*linear.linear).block_bytes;
                 });
  return bytes;
}

absl::StatusOr<std::shared_ptr<const CpuMergedWeights>> CpuMergedWeights::Build(
    const ModelConfig& config, const WeightSource& source,
    const CpuWeights& base, const kernels::WorkerPool& pool,
    const std::shared_ptr<const Adapter>& adapter) {
  std::shared_ptr<CpuMergedWeights> weights(new CpuMergedWeights());
  DESCANT_ASSIGN_OR_RETURN(
      weights->arena_, kernels::Arena::Create(Bytes(config, base, *adapter)));
  weights->layers_.assign(base.layers(), base.layers() + config.num_layers);
  // Blocks are a multiple of a cache line.
  std::byte* next = weights->arena_.data();
  ForEachChanged(config, base.shape(), *adapter,
                 [&](int32_t layer, const MergedLinear& linear) {
                   CpuLinear& target = weights->layers_[layer].*linear.linear;
                   target.blocks = next;
                   next += linear.blocks * target.block_bytes;
                 });
  PlaceLayers(base.shape(), weights->layers_, pool, weights->arena_);

  const MergedWeightSource merged(config, &source, adapter);
  PackScratch scratch;
  absl::Status status;
  ForEachChanged(config, base.shape(), *adapter,
                 [&](int32_t layer, const MergedLinear& linear) {
                   std::byte* blocks = const_cast<std::byte*>(
                       (weights->layers_[layer].*linear.linear).blocks);
                   for (const LinearPart& part : linear.parts) {
                     if (!status.ok()) return;
                     status = PackPart(config, merged, part, layer,
                                       base.layer(layer).*linear.linear, blocks,
                                       &scratch);
                   }
                 });
  if (!status.ok()) return status;
  return std::shared_ptr<const CpuMergedWeights>(std::move(weights));
}

}  // namespace descant
