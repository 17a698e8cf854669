#include "runtime/model/cpu_runner_step.h"

#include <algorithm>

#include "absl/types/span.h"
#include "runtime/kernels/packing.h"

namespace descant {
namespace {

using kernels::bf16_t;
using kernels::kColumnBlock;
using kernels::kRankBlock;

// Base rows times packed weights.
struct Product {
  const bf16_t* a;
  int64_t lda;
  int32_t k_pairs;
  const bf16_t* b;
};

// One worker's way through the phases of a step.
class Step {
 public:
  Step(CpuStepState* state, int32_t worker)
      : state_(*state),
        config_(*state->config),
        kernels_(*state->kernels),
        shape_(state->weights->shape()),
        scratch_(state->scratch),
        plan_(state->plan),
        mine_(state->workers[worker]),
        worker_(worker),
        rows_(state->batch->rows()) {}

  void Run();

 private:
  // Calls body(item) for every item in [0, items), each on one worker, and
  // waits for all.
  template <typename Body>
  void ForEach(int32_t items, const Body& body);
  // The same over ranges of rows: body(begin, end).
  template <typename Body>
  void ForRows(int32_t rows, const Body& body);
  // The same over (block of columns, range of rows): body(block, begin, end)
  // with at most kGemmRows rows, a block's ranges one after the other.
  template <typename Body>
  void ForBlocks(int32_t blocks, int32_t rows, const Body& body);

  void Start();
  void Layer(int32_t layer);
  void Norm(const float* weight);
  void Shrink(int32_t layer, LoraSite site, const bf16_t* a, int64_t lda,
              int32_t k_pairs);
  void ProjectQkv(int32_t layer);
  void RotateAndStore(int32_t layer);
  void Attend(int32_t layer);
  void AddProjection(int32_t layer, LoraSite site, const Product& product);
  void ProjectGateUp(int32_t layer);
  void Head();
  void Sample();

  // C [end - begin, 32] = rows of product times one block.
  void Multiply(const Product& product, int64_t block, int32_t begin,
                int32_t end, float* c, int64_t ldc);
  // C += h B for the segments' rows within [begin, end).
  void Expand(int32_t layer, LoraSite site, int32_t slice, int32_t block,
              int32_t begin, int32_t end, float* c, int64_t ldc);

  CpuStepState& state_;
  const ModelConfig& config_;
  const kernels::CpuKernels& kernels_;
  const CpuShape& shape_;
  const CpuScratch& scratch_;
  const CpuPlan& plan_;
  const CpuWorkerScratch& mine_;
  const int32_t worker_;
  const int32_t rows_;
  int32_t phase_ = 0;
  bool last_chunk_ = false;  // of rows that meet the current block
};

template <typename Body>
void Step::ForEach(int32_t items, const Body& body) {
  const int32_t workers = state_.pool->size();
  ItemCounter* counters = &state_.counters[phase_ % kCounterPhases * workers];
  // Nobody has used these since two barriers ago, nor will before the next.
  ItemCounter* later =
      &state_.counters[(phase_ + 2) % kCounterPhases * workers];
  later[worker_].taken.store(0, std::memory_order_relaxed);
  ++phase_;
  for (int32_t i = 0; i < workers; ++i) {
    const int32_t owner = (worker_ + i) % workers;
    const int32_t begin =
        static_cast<int32_t>(int64_t{items} * owner / workers);
    const int32_t end =
        static_cast<int32_t>(int64_t{items} * (owner + 1) / workers);
    for (;;) {
      const int32_t item =
          begin + counters[owner].taken.fetch_add(1, std::memory_order_relaxed);
      if (item >= end) break;
      body(item);
    }
  }
  state_.pool->Barrier();
}

template <typename Body>
void Step::ForRows(int32_t rows, const Body& body) {
  const int32_t parts = std::min(rows, 4 * state_.pool->size());
  ForEach(parts, [&](int32_t part) {
    body(static_cast<int32_t>(int64_t{rows} * part / parts),
         static_cast<int32_t>(int64_t{rows} * (part + 1) / parts));
  });
}

template <typename Body>
void Step::ForBlocks(int32_t blocks, int32_t rows, const Body& body) {
  const int32_t chunks = (rows + kGemmRows - 1) / kGemmRows;
  // Rows are split only where there are too few blocks for all workers.
  const int32_t parts = std::clamp(4 * state_.pool->size() / blocks, 1, chunks);
  ForEach(blocks * parts, [&](int32_t item) {
    const int32_t block = item / parts;
    const int32_t part = item % parts;
    const int32_t last = chunks * (part + 1) / parts;
    for (int32_t chunk = chunks * part / parts; chunk < last; ++chunk) {
      last_chunk_ = chunk + 1 == last;
      body(block, static_cast<int32_t>(int64_t{rows} * chunk / chunks),
           static_cast<int32_t>(int64_t{rows} * (chunk + 1) / chunks));
    }
  });
}

void Step::Run() {
  Start();
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) Layer(layer);
  if (state_.batch->outputs() > 0) {
    Head();
    Sample();
  }
  if (kernels_.end_region != nullptr) kernels_.end_region();
}

void Step::Start() {
  const int32_t new_blocks = static_cast<int32_t>(plan_.new_blocks.size());
  ForEach(new_blocks, [&](int32_t item) {
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      state_.kv->Clear(layer, plan_.new_blocks[item]);
    }
  });
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int32_t row = begin; row < end; ++row) {
      state_.weights->Embed(plan_.rows[row].token,
                            scratch_.x + int64_t{row} * shape_.hidden_width);
    }
  });
}

void Step::Layer(int32_t layer) {
  const CpuLayerWeights& weights = state_.weights->layer(layer);
  Norm(weights.attention_norm);
  Shrink(layer, LoraSite::kQkv, scratch_.normed, shape_.hidden_stride,
         shape_.hidden_pairs);
  ProjectQkv(layer);
  RotateAndStore(layer);
  Attend(layer);
  Shrink(layer, LoraSite::kOut, scratch_.attended, shape_.q_stride,
         shape_.q_pairs);
  AddProjection(
      layer, LoraSite::kOut,
      {scratch_.attended, shape_.q_stride, shape_.q_pairs, weights.out});
  Norm(weights.mlp_norm);
  Shrink(layer, LoraSite::kGateUp, scratch_.normed, shape_.hidden_stride,
         shape_.hidden_pairs);
  ProjectGateUp(layer);
  Shrink(layer, LoraSite::kDown, scratch_.activated, shape_.mlp_stride,
         shape_.mlp_pairs);
  AddProjection(
      layer, LoraSite::kDown,
      {scratch_.activated, shape_.mlp_stride, shape_.mlp_pairs, weights.down});
}

void Step::Norm(const float* weight) {
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int64_t row = begin; row < end; ++row) {
      kernels_.rms_norm(scratch_.x + row * shape_.hidden_width, weight,
                        shape_.hidden, shape_.hidden_width,
                        config_.norm_eps,
                        scratch_.normed + row * shape_.hidden_stride);
    }
  });
}

void Step::Shrink(int32_t layer, LoraSite site, const bf16_t* a, int64_t lda,
                  int32_t k_pairs) {
  const int32_t index = static_cast<int32_t>(site);
  if ((plan_.site_mask >> index & 1u) == 0) return;
  const int32_t blocks = plan_.max_rank / kRankBlock;
  const int32_t items = static_cast<int32_t>(plan_.shrinks.size()) * blocks;
  ForEach(items, [&](int32_t item) {
    const PlanShrink& shrink = plan_.shrinks[item / blocks];
    const int32_t column = item % blocks * kRankBlock;
    const PlanSegment& segment = plan_.segments[shrink.segment];
    const PackedSite& packed =
        segment.adapter->sites[layer * kLoraSites + index];
    if (column >= packed.rank) return;
    float scale[kRankBlock];
    for (int32_t i = 0; i < kRankBlock; ++i) {
      scale[i] = packed.scale[column + i] * segment.weight;
    }
    kernels_.shrink(
        shrink.row_end - shrink.row_begin, k_pairs, a + shrink.row_begin * lda,
        lda, packed.a + int64_t{column} * 2 * k_pairs, scale,
        segment.h + (shrink.row_begin - segment.row_begin) * segment.h_stride +
            column,
        segment.h_stride);
  });
}

void Step::Multiply(const Product& product, int64_t block, int32_t begin,
                    int32_t end, float* c, int64_t ldc) {
  const int64_t size = int64_t{product.k_pairs} * 2 * kColumnBlock;
  const bf16_t* b = product.b + block * size;
  // Shares are contiguous. (Past the last block lies other memory, which a
  // fetch does not mind.)
  const bf16_t* next = last_chunk_ ? b + size : nullptr;
  kernels_.gemm(end - begin, product.k_pairs, product.a + begin * product.lda,
                product.lda, b, 2 * kColumnBlock, next, c, ldc,
                /*accumulate=*/false);
}

void Step::Expand(int32_t layer, LoraSite site, int32_t slice, int32_t block,
                  int32_t begin, int32_t end, float* c, int64_t ldc) {
  const int32_t index = layer * kLoraSites + static_cast<int32_t>(site);
  for (const PlanSegment& segment : plan_.segments) {
    const int32_t first = std::max(begin, segment.row_begin);
    const int32_t last = std::min(end, segment.row_end);
    if (first >= last) continue;
    const PackedSlice& packed = segment.adapter->sites[index].slices[slice];
    if (packed.rank_pairs == 0) continue;
    kernels_.tile(
        last - first, packed.rank_pairs,
        segment.h + (first - segment.row_begin) * segment.h_stride +
            packed.h_offset,
        segment.h_stride,
        packed.b + int64_t{block} * packed.rank_pairs * 2 * kColumnBlock,
        2 * kColumnBlock, nullptr, c + (first - begin) * ldc, ldc,
        /*accumulate=*/true);
  }
}

void Step::ProjectQkv(int32_t layer) {
  const Product product = {scratch_.normed, shape_.hidden_stride,
                           shape_.hidden_pairs,
                           state_.weights->layer(layer).qkv};
  const int32_t starts[] = {0, shape_.q_width / kColumnBlock,
                            (shape_.q_width + shape_.kv_width) / kColumnBlock};
  ForBlocks(shape_.qkv_width / kColumnBlock, rows_,
            [&](int32_t block, int32_t begin, int32_t end) {
              float* c = scratch_.qkv + int64_t{begin} * shape_.qkv_width +
                         block * kColumnBlock;
              Multiply(product, block, begin, end, c, shape_.qkv_width);
              const int32_t slice =
                  block < starts[1] ? 0 : (block < starts[2] ? 1 : 2);
              Expand(layer, LoraSite::kQkv, slice, block - starts[slice], begin,
                     end, c, shape_.qkv_width);
            });
}

void Step::RotateAndStore(int32_t layer) {
  const int32_t dim = config_.head_dim;
  const int32_t half = dim / 2;
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const PlanRow& plan = plan_.rows[row];
      const float* cos = state_.rope_cos + int64_t{plan.position} * half;
      const float* sin = state_.rope_sin + int64_t{plan.position} * half;
      const float* from = scratch_.qkv + row * shape_.qkv_width;
      bf16_t* q = scratch_.q + row * shape_.q_stride;
      for (int32_t head = 0; head < config_.num_heads; ++head) {
        kernels_.rope(from + head * dim, cos, sin, half, q + head * dim);
      }
      from += shape_.q_width;
      for (int32_t head = 0; head < config_.num_kv_heads; ++head) {
        kernels_.rope(from + head * dim, cos, sin, half, mine_.k);
        kernels_.to_bf16(from + shape_.kv_width + head * dim, dim, mine_.v);
        state_.kv->Write(layer, head, plan.block, plan.position % kBlockSize,
                         mine_.k, mine_.v);
      }
    }
  });
}

void Step::Attend(int32_t layer) {
  const int32_t heads = config_.num_kv_heads;
  const int32_t group = config_.num_heads / heads;
  const int32_t items = static_cast<int32_t>(plan_.attention.size()) * heads;
  ForEach(items, [&](int32_t item) {
    const PlanAttention& plan = plan_.attention[item / heads];
    const int32_t head = item % heads;
    const int64_t offset = plan.row_begin * shape_.q_stride +
                           int64_t{head} * group * config_.head_dim;
    kernels::AttentionItem attention;
    attention.q = scratch_.q + offset;
    attention.q_stride = shape_.q_stride;
    attention.tokens = plan.tokens;
    attention.group = group;
    attention.head_dim = config_.head_dim;
    attention.first_position = plan.first_position;
    attention.kv = state_.kv->Head(layer, head);
    attention.block_stride = state_.kv->block_stride();
    attention.v_offset = state_.kv->v_offset();
    attention.padded_dim = state_.kv->padded_dim();
    attention.blocks = plan.blocks;
    attention.next_kv = nullptr;
    if (item + 1 < items) {
      attention.next_kv = state_.kv->Head(layer, (item + 1) % heads);
      attention.next_block = plan_.attention[(item + 1) / heads].blocks[0];
    }
    attention.scale = 1.0f / __builtin_sqrtf(config_.head_dim);
    attention.out = scratch_.attended + offset;
    attention.out_stride = shape_.q_stride;
    kernels_.attention(attention, mine_.attention);
  });
}

void Step::AddProjection(int32_t layer, LoraSite site, const Product& product) {
  float* tile = mine_.tiles[0];
  ForBlocks(shape_.hidden_width / kColumnBlock, rows_,
            [&](int32_t block, int32_t begin, int32_t end) {
              Multiply(product, block, begin, end, tile, kColumnBlock);
              Expand(layer, site, 0, block, begin, end, tile, kColumnBlock);
              kernels_.residual_add(end - begin, tile,
                                    scratch_.x +
                                        int64_t{begin} * shape_.hidden_width +
                                        block * kColumnBlock,
                                    shape_.hidden_width);
            });
}

void Step::ProjectGateUp(int32_t layer) {
  const Product product = {scratch_.normed, shape_.hidden_stride,
                           shape_.hidden_pairs,
                           state_.weights->layer(layer).gate_up};
  ForBlocks(shape_.mlp_width / kColumnBlock, rows_,
            [&](int32_t block, int32_t begin, int32_t end) {
              for (int32_t slice = 0; slice < 2; ++slice) {
                float* tile = mine_.tiles[slice];
                Multiply(product, 2 * block + slice, begin, end, tile,
                         kColumnBlock);
                Expand(layer, LoraSite::kGateUp, slice, block, begin, end, tile,
                       kColumnBlock);
              }
              kernels_.silu_mul(end - begin, mine_.tiles[0], mine_.tiles[1],
                                scratch_.activated + begin * shape_.mlp_stride +
                                    block * kColumnBlock,
                                shape_.mlp_stride);
            });
}

void Step::Head() {
  const Batch& batch = *state_.batch;
  ForRows(batch.outputs(), [&](int32_t begin, int32_t end) {
    for (int64_t output = begin; output < end; ++output) {
      const int64_t row = batch.output_rows[output];
      kernels_.rms_norm(scratch_.x + row * shape_.hidden_width,
                        state_.weights->final_norm(), shape_.hidden,
                        shape_.hidden_width, config_.norm_eps,
                        scratch_.final_normed + output * shape_.hidden_stride);
    }
  });
  const Product product = {scratch_.final_normed, shape_.hidden_stride,
                           shape_.hidden_pairs, state_.weights->head()};
  ForBlocks(shape_.vocab_width / kColumnBlock, batch.outputs(),
            [&](int32_t block, int32_t begin, int32_t end) {
              Multiply(product, block, begin, end,
                       scratch_.logits + int64_t{begin} * shape_.vocab_width +
                           block * kColumnBlock,
                       shape_.vocab_width);
            });
}

void Step::Sample() {
  const Batch& batch = *state_.batch;
  ForEach(static_cast<int32_t>(batch.sequences.size()), [&](int32_t index) {
    const BatchSequence& sequence = batch.sequences[index];
    if (sequence.output != OutputKind::kTokens) return;
    for (int32_t output = sequence.output_begin; output < sequence.output_end;
         ++output) {
      const float* logits =
          scratch_.logits + int64_t{output} * shape_.vocab_width;
      SampleOutput(batch, index, output,
                   absl::MakeConstSpan(logits, config_.vocab_size),
                   mine_.sampler, state_.output);
    }
  });
}

}  // namespace

void RunCpuStep(CpuStepState* state, int32_t worker) {
  Step(state, worker).Run();
}

}  // namespace descant
