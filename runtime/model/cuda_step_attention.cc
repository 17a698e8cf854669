// CudaStep: attention. Long chunks of prefill go through the library, over keys
// and values that are copied out of their pages; all other rows, one by one,
// through the kernel that reads the pages.
#include <algorithm>
#include <cstddef>

#include "runtime/base/status_macros.h"
#include "runtime/model/cuda_step.h"

namespace descant {
namespace {

constexpr int64_t kHalfBytes = 2;

void* HalfAt(void* base, int64_t element) {
  return static_cast<std::byte*>(base) + element * kHalfBytes;
}

}  // namespace

absl::Status CudaStep::Attention(const CudaStepShape& shape,
                                 const CudaChunks& chunks, int32_t layer) {
  int32_t row = 0;
  for (const CudaChunkGroup& group : chunks.groups) {
    DESCANT_RETURN_IF_ERROR(AttendRows(shape, layer, row, group.row_begin));
    DESCANT_RETURN_IF_ERROR(AttendGroup(chunks, group, layer));
    row = group.row_end;
  }
  return AttendRows(shape, layer, row, shape.rows);
}

absl::Status CudaStep::AttendRows(const CudaStepShape& shape, int32_t layer,
                                  int32_t row_begin, int32_t row_end) {
  Device& device = *parts_.device;
  const ModelConfig& config = *parts_.config;
  const CudaLayerWeights& weights = parts_.weights->layer(layer);
  kernels::CudaAttentionArgs args;
  args.q_stride = weights.qkv.columns;
  args.heads = config.num_heads;
  args.kv_heads = config.num_kv_heads;
  args.head_dim = config.head_dim;
  args.block_tables = Array<int32_t>(layout_.block_tables);
  args.table_stride = layout_.table_stride;
  args.window = WindowOf(config, layer);
  args.scale = AttentionScale(config);
  args.cap = config.attention_logit_cap;
  args.kv = parts_.kv->Layer(layer);
  args.max_splits = shape.attention_parts;
  args.partials = partials_;
  args.out_stride = weights.out.depth;
  args.stream = device.stream();
  for (int32_t row = row_begin; row < row_end; row += rows_at_once_) {
    args.rows = std::min(rows_at_once_, row_end - row);
    args.q = HalfAt(qkv_, row * args.q_stride);
    args.positions = Array<int32_t>(layout_.positions) + row;
    args.sequences = Array<int32_t>(layout_.sequences) + row;
    args.out = HalfAt(attended_, row * args.out_stride);
    DESCANT_RETURN_IF_ERROR(device.Launch(device.kernels().attention, args));
  }
  return absl::OkStatus();
}

absl::Status CudaStep::AttendGroup(const CudaChunks& chunks,
                                   const CudaChunkGroup& group, int32_t layer) {
  Device& device = *parts_.device;
  const ModelConfig& config = *parts_.config;
  const CudaLayerWeights& weights = parts_.weights->layer(layer);
  const int64_t token = int64_t{config.num_kv_heads} * config.head_dim;
  kernels::GatherKvArgs gather;
  gather.kv = parts_.kv->Layer(layer);
  gather.kv_heads = config.num_kv_heads;
  gather.head_dim = config.head_dim;
  gather.stream = device.stream();
  for (int32_t i = group.chunk_begin; i < group.chunk_end; ++i) {
    const CudaChunk& chunk = chunks.chunks[i];
    gather.block_table = Array<int32_t>(layout_.block_tables) +
                         int64_t{chunk.sequence} * layout_.table_stride;
    gather.tokens = chunk.keys;
    gather.keys = HalfAt(gathered_keys_, chunk.key_begin * token);
    gather.values = HalfAt(gathered_values_, chunk.key_begin * token);
    DESCANT_RETURN_IF_ERROR(device.Launch(device.kernels().gather_kv, gather));
  }
  ChunkAttention attention;
  attention.q_stride = weights.qkv.columns;
  attention.q = HalfAt(qkv_, group.row_begin * attention.q_stride);
  attention.keys = gathered_keys_;
  attention.values = gathered_values_;
  attention.row_begins = Array<int32_t>(layout_.chunk_rows) + group.begins;
  attention.key_begins = Array<int32_t>(layout_.chunk_keys) + group.begins;
  attention.sequences = group.chunk_end - group.chunk_begin;
  attention.rows = group.row_end - group.row_begin;
  attention.key_count = group.keys;
  attention.most_rows = group.most_rows;
  attention.most_keys = group.most_keys;
  attention.heads = config.num_heads;
  attention.kv_heads = config.num_kv_heads;
  attention.head_dim = config.head_dim;
  attention.window = WindowOf(config, layer);
  attention.scale = AttentionScale(config);
  attention.out_stride = weights.out.depth;
  attention.out = HalfAt(attended_, group.row_begin * attention.out_stride);
  return device.AttendChunks(attention);
}

}  // namespace descant
