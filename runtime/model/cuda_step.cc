#include "runtime/model/cuda_step.h"

#include <utility>

#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace descant {
// Of the depth of a shrink. Few rows are few blocks: without splits they would
// leave most of the device idle (a GPU of this class has 108 to 132
// multiprocessors).
int32_t ShrinkSplits(int32_t rows) {
  return rows <= 64 ? 8 : rows <= 512 ? 4 : rows <= 2048 ? 2 : 1;
}

absl::Status CudaStep::Run(const std::shared_ptr<const CudaWeights>& weights,
                           const CudaStepShape& shape,
                           const CudaChunks& chunks) {
  DESCANT_CHECK(shape.rows <= layout_.max_rows);
  DESCANT_CHECK(shape.prefill || chunks.chunks.empty());
  chunk_counts_.chunks += chunks.chunks.size();
  chunk_counts_.groups += chunks.groups.size();
  graphs_.DropDead();
  const Pass pass = {*weights, shape};
  const CudaGraphs::Pieces* graphs = graphs_.Find(weights, shape);
  if (graphs == nullptr) {
    if (!graphs_.IsWorthCapturing(weights, shape)) {
      ++kinds_.eager;
      return Whole(pass, chunks);
    }
    DESCANT_ASSIGN_OR_RETURN(CudaGraphs::Pieces captured, Capture(pass));
    graphs = graphs_.Keep(weights, shape, std::move(captured));
  }
  if (!shape.prefill) {
    ++kinds_.graph;
    return graphs->front()->Replay();
  }
  ++kinds_.piecewise;
  const int32_t layers = parts_.config->num_layers;
  for (int32_t piece = 0; piece <= layers; ++piece) {
    DESCANT_RETURN_IF_ERROR((*graphs)[piece]->Replay());
    if (piece == layers) break;
    DESCANT_RETURN_IF_ERROR(Attention(shape, chunks, piece));
  }
  return absl::OkStatus();
}

absl::StatusOr<CudaGraphs::Pieces> CudaStep::Capture(const Pass& pass) {
  CudaGraphs::Pieces graphs;
  const bool prefill = pass.shape.prefill;
  const int32_t pieces = prefill ? parts_.config->num_layers + 1 : 1;
  for (int32_t piece = 0; piece < pieces; ++piece) {
    DESCANT_ASSIGN_OR_RETURN(graphs.emplace_back(), parts_.device->Capture([&] {
      return prefill ? Piece(pass, piece) : Whole(pass, {});
    }));
  }
  return graphs;
}

absl::Status CudaStep::Whole(const Pass& pass, const CudaChunks& chunks) {
  const int32_t layers = parts_.config->num_layers;
  for (int32_t piece = 0; piece <= layers; ++piece) {
    DESCANT_RETURN_IF_ERROR(Piece(pass, piece));
    if (piece == layers) break;
    DESCANT_RETURN_IF_ERROR(Attention(pass.shape, chunks, piece));
  }
  return absl::OkStatus();
}

absl::Status CudaStep::Piece(const Pass& pass, int32_t piece) {
  if (piece == 0) {
    DESCANT_RETURN_IF_ERROR(Begin(pass));
  } else {
    DESCANT_RETURN_IF_ERROR(AfterAttention(pass, piece - 1));
  }
  if (piece == parts_.config->num_layers) return Head(pass);
  return QkvOf(pass, piece);
}

kernels::LoraTiles CudaStep::Tiles(int32_t round, int32_t rows) const {
  const int64_t at = int64_t{round} * max_tiles_;
  return {tile_slots_ + at, tile_rows_ + at * kernels::kLoraTileRows,
          kernels::MaxLoraTiles(rows, max_slots_)};
}

// Embeddings, and which rows each adapter has.
absl::Status CudaStep::Begin(const Pass& pass) {
  Device& device = *parts_.device;
  const ModelConfig& config = *parts_.config;
  for (int32_t round = 0; round < pass.shape.lora_rounds; ++round) {
    kernels::RouteArgs route;
    route.row_slots =
        Array<int32_t>(layout_.row_slots) + int64_t{round} * layout_.max_rows;
    route.rows = pass.shape.rows;
    route.slots = max_slots_;
    route.tiles = Tiles(round, pass.shape.rows);
    route.stream = device.stream();
    DESCANT_RETURN_IF_ERROR(device.Launch(device.kernels().route, route));
  }
  kernels::EmbedArgs embed;
  embed.tokens = Array<int32_t>(layout_.tokens);
  embed.positions = Array<int32_t>(layout_.positions);
  embed.last_tokens = parts_.last_tokens;
  embed.rows = pass.shape.rows;
  embed.embedding = pass.weights.embedding();
  embed.position_embedding = pass.weights.position_embedding();
  embed.width = config.hidden_size;
  embed.scale = config.embedding_scale;
  embed.x = x_;
  embed.x_stride = config.hidden_size;
  embed.stream = device.stream();
  return device.Launch(device.kernels().embed, embed);
}

absl::Status CudaStep::Norm(const CudaNorm& norm, const float* post_weight,
                            int32_t rows, const int32_t* source_rows, bool add,
                            void* out) {
  Device& device = *parts_.device;
  const ModelConfig& config = *parts_.config;
  kernels::NormArgs args;
  args.x = x_;
  args.x_stride = config.hidden_size;
  args.delta = add ? delta_ : nullptr;
  args.delta_stride = config.hidden_size;
  args.post_weight = add ? post_weight : nullptr;
  args.source_rows = source_rows;
  args.rows = rows;
  args.width = config.hidden_size;
  args.weight = norm.weight;
  args.bias = norm.bias;
  args.eps = config.norm_eps;
  args.out = out;
  args.out_stride = config.hidden_size;
  args.stream = device.stream();
  return device.Launch(device.kernels().norm, args);
}

absl::Status CudaStep::QkvOf(const Pass& pass, int32_t layer) {
  Device& device = *parts_.device;
  const ModelConfig& config = *parts_.config;
  const CudaLayerWeights& weights = pass.weights.layer(layer);
  // What the layer before adds comes with this one's norm.
  const float* post =
      layer == 0 ? nullptr : pass.weights.layer(layer - 1).mlp_post_norm;
  DESCANT_RETURN_IF_ERROR(Norm(weights.attention_norm, post, pass.shape.rows,
                               nullptr, /*add=*/layer > 0, normed_));
  DESCANT_RETURN_IF_ERROR(
      Project(pass.shape, layer, LoraSite::kQkv, weights.qkv, normed_, qkv_));
  const bool windowed = WindowOf(config, layer) > 0 && rotations_[1].pairs > 0;
  const Rotations& rotations = rotations_[windowed ? 1 : 0];
  kernels::RopeArgs rope;
  rope.qkv = qkv_;
  rope.qkv_stride = weights.qkv.columns;
  rope.rows = pass.shape.rows;
  rope.heads = config.num_heads;
  rope.kv_heads = config.num_kv_heads;
  rope.head_dim = config.head_dim;
  rope.positions = Array<int32_t>(layout_.positions);
  rope.places = Array<int32_t>(layout_.places);
  rope.cos = rotations.cos.data<float>();
  rope.sin = rotations.sin.data<float>();
  rope.rotary_half = rotations.pairs;
  rope.q_norm = weights.query_norm;
  rope.k_norm = weights.key_norm;
  rope.eps = config.norm_eps;
  rope.kv = parts_.kv->Layer(layer);
  rope.stream = device.stream();
  return device.Launch(device.kernels().rope, rope);
}

absl::Status CudaStep::AfterAttention(const Pass& pass, int32_t layer) {
  Device& device = *parts_.device;
  const ModelConfig& config = *parts_.config;
  const CudaLayerWeights& weights = pass.weights.layer(layer);
  DESCANT_RETURN_IF_ERROR(Project(pass.shape, layer, LoraSite::kOut,
                                  weights.out, attended_, delta_));
  DESCANT_RETURN_IF_ERROR(Norm(weights.mlp_norm, weights.attention_post_norm,
                               pass.shape.rows, nullptr, /*add=*/true,
                               normed_));
  DESCANT_RETURN_IF_ERROR(Project(pass.shape, layer, LoraSite::kGateUp,
                                  weights.gate_up, normed_, gate_up_));
  kernels::ActivateArgs activate;
  activate.gate_up = gate_up_;
  activate.gate_up_stride = weights.gate_up.columns;
  activate.rows = pass.shape.rows;
  activate.width = config.intermediate_size;
  activate.gated = config.gated_mlp;
  activate.activation = config.activation == Activation::kSilu
                            ? kernels::CudaActivation::kSilu
                            : kernels::CudaActivation::kGeluTanh;
  activate.out = activated_;
  activate.out_stride = weights.down.depth;
  activate.stream = device.stream();
  DESCANT_RETURN_IF_ERROR(device.Launch(device.kernels().activate, activate));
  return Project(pass.shape, layer, LoraSite::kDown, weights.down, activated_,
                 delta_);
}

absl::Status CudaStep::Head(const Pass& pass) {
  if (pass.shape.outputs == 0) return absl::OkStatus();
  const ModelConfig& config = *parts_.config;
  const float* post = pass.weights.layer(config.num_layers - 1).mlp_post_norm;
  DESCANT_RETURN_IF_ERROR(Norm(pass.weights.final_norm(), post,
                               pass.shape.outputs,
                               Array<int32_t>(layout_.output_rows),
                               /*add=*/true, final_normed_));
  const CudaLinear& head = pass.weights.head();
  MatrixProduct product;
  product.x = final_normed_;
  product.x_stride = config.hidden_size;
  product.w = head.w;
  product.y = half_logits_;
  product.y_stride = logits_stride_;
  product.rows = pass.shape.outputs;
  product.columns = head.columns;
  product.depth = head.depth;
  Device& device = *parts_.device;
  DESCANT_RETURN_IF_ERROR(device.Multiply(product));
  kernels::WidenLogitsArgs widen;
  widen.logits = half_logits_;
  widen.logits_stride = logits_stride_;
  widen.rows = pass.shape.outputs;
  widen.columns = static_cast<int32_t>(logits_stride_);
  widen.cap = config.final_logit_cap;
  widen.out = logits_;
  widen.out_stride = logits_stride_;
  widen.stream = device.stream();
  return device.Launch(device.kernels().widen_logits, widen);
}

absl::Status CudaStep::Project(const CudaStepShape& shape, int32_t layer,
                               LoraSite site, const CudaLinear& linear,
                               const void* x, void* y) {
  MatrixProduct product;
  product.x = x;
  product.x_stride = linear.depth;
  product.w = linear.w;
  product.bias = linear.bias;
  product.y = y;
  product.y_stride = linear.columns;
  product.rows = shape.rows;
  product.columns = linear.columns;
  product.depth = linear.depth;
  DESCANT_RETURN_IF_ERROR(parts_.device->Multiply(product));
  const uint32_t bit = uint32_t{1} << static_cast<uint32_t>(site);
  if ((shape.site_mask & bit) == 0) return absl::OkStatus();
  for (int32_t round = 0; round < shape.lora_rounds; ++round) {
    DESCANT_RETURN_IF_ERROR(Lora(shape, round, layer, site, linear, x, y));
  }
  return absl::OkStatus();
}

absl::Status CudaStep::Lora(const CudaStepShape& shape, int32_t round,
                            int32_t layer, LoraSite site,
                            const CudaLinear& linear, const void* x, void* y) {
  Device& device = *parts_.device;
  const ModelConfig& config = *parts_.config;
  kernels::ShrinkArgs shrink;
  shrink.x = x;
  shrink.x_stride = linear.depth;
  shrink.in = linear.depth;
  shrink.slots = parts_.adapters->Table(layer, site);
  shrink.tiles = Tiles(round, shape.rows);
  shrink.planes = planes_;
  shrink.plane_stride = shape.lora_rank;
  shrink.splits = ShrinkSplits(shape.rows);
  shrink.stream = device.stream();
  DESCANT_RETURN_IF_ERROR(device.Launch(device.kernels().shrink, shrink));
  kernels::ExpandArgs expand;
  expand.planes = planes_;
  expand.plane_stride = shape.lora_rank;
  expand.splits = shrink.splits;
  expand.slots = shrink.slots;
  expand.tiles = shrink.tiles;
  expand.row_weights =
      Array<float>(layout_.row_weights) + int64_t{round} * layout_.max_rows;
  expand.y = y;
  expand.y_stride = linear.columns;
  const int32_t q = config.num_heads * config.head_dim;
  const int32_t kv = config.num_kv_heads * config.head_dim;
  switch (site) {
    case LoraSite::kQkv:
      expand.slices = 3;
      expand.slice_begin[1] = q;
      expand.slice_begin[2] = q + kv;
      expand.slice_columns[0] = q;
      expand.slice_columns[1] = expand.slice_columns[2] = kv;
      break;
    case LoraSite::kGateUp: {
      // A model without a gate has up alone, as slice 1.
      const int32_t width = config.intermediate_size;
      expand.slices = 2;
      expand.slice_columns[0] = config.gated_mlp ? width : 0;
      expand.slice_begin[1] = config.gated_mlp ? width : 0;
      expand.slice_columns[1] = width;
      break;
    }
    case LoraSite::kOut:
    case LoraSite::kDown:
      expand.slices = 1;
      expand.slice_columns[0] = linear.columns;
      break;
  }
  expand.stream = device.stream();
  return device.Launch(device.kernels().expand, expand);
}

}  // namespace descant
