#include "runtime/model/cpu_runner_step.h"

#include <algorithm>
#include <cmath>

#include "absl/types/span.h"
#include "runtime/model/cpu_runner_phases.h"

namespace descant {
namespace {

using kernels::kColumnBlock;

kernels::NormFn NormOf(const ModelConfig& config,
                       const kernels::CpuKernels& kernels) {
  return config.norm == NormKind::kLayer ? kernels.layer_norm
                                         : kernels.rms_norm;
}

}  // namespace

void CpuStep::Run() {
  if (state_.timer != nullptr) state_.timer->Begin(worker_);
  Start();
  End(CpuPhase::kEmbed);
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) Layer(layer);
  if (state_.batch->outputs() > 0) {
    Head();
    End(CpuPhase::kHead);
    Sample();
    End(CpuPhase::kSample);
  }
  if (kernels_.end_region != nullptr) kernels_.end_region();
}

void CpuStep::Start() {
  const int32_t new_blocks = static_cast<int32_t>(plan_.new_blocks.size());
  ForEach(new_blocks, [&](int32_t item) {
    for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
      state_.kv->Clear(layer, plan_.new_blocks[item]);
    }
  });
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int32_t row = begin; row < end; ++row) {
      state_.weights->Embed(plan_.rows[row].token, plan_.rows[row].position,
                            scratch_.x + int64_t{row} * shape_.hidden_width);
    }
  });
}

void CpuStep::Layer(int32_t layer) {
  const CpuLayerWeights& weights = LayerWeights(layer);
  const bool last = layer + 1 == config_.num_layers;
  const std::byte* next = last
                              ? FirstBlock(state_.weights->head(),
                                           shape_.vocab_width / kColumnBlock, 1)
                              : FirstBlock(LayerWeights(layer + 1).qkv,
                                           shape_.qkv_width / kColumnBlock, 1);
  if (layer == 0 || !ByRows(LoraSite::kDown)) {
    Norm(weights.attention_norm, LoraSite::kQkv);
    End(CpuPhase::kNorm);
  }
  Shrink(layer, LoraSite::kQkv, scratch_.normed, shape_.hidden_stride);
  End(CpuPhase::kShrink);
  ProjectQkv(layer);
  End(CpuPhase::kQkv);
  if (ByRows(LoraSite::kQkv)) {
    QkvRows(layer);
  } else {
    RotateAndStore(layer);
  }
  End(CpuPhase::kRope);
  Attend(layer);
  End(CpuPhase::kAttention);
  Shrink(layer, LoraSite::kOut, scratch_.attended, shape_.q_stride);
  End(CpuPhase::kShrink);
  AddProjection(
      layer, LoraSite::kOut,
      {scratch_.attended, shape_.q_stride, shape_.q_pairs, weights.out,
       Quantise(scratch_.attended, shape_.q_stride, shape_.q_width,
                scratch_.attended_int8),
       FirstBlock(weights.gate_up, shape_.mlp_width / kColumnBlock,
                  shape_.mlp_slices)},
      weights.attention_post_norm);
  End(CpuPhase::kOut);
  if (!ByRows(LoraSite::kOut)) {
    Norm(weights.mlp_norm, LoraSite::kGateUp);
    End(CpuPhase::kNorm);
  }
  Shrink(layer, LoraSite::kGateUp, scratch_.normed, shape_.hidden_stride);
  End(CpuPhase::kShrink);
  ProjectMlp(layer);
  End(CpuPhase::kGateUp);
  Shrink(layer, LoraSite::kDown, scratch_.activated, shape_.mlp_stride);
  End(CpuPhase::kShrink);
  AddProjection(
      layer, LoraSite::kDown,
      {scratch_.activated, shape_.mlp_stride, shape_.mlp_pairs, weights.down,
       Quantise(scratch_.activated, shape_.mlp_stride, shape_.mlp_width,
                scratch_.activated_int8),
       next},
      weights.mlp_post_norm);
  End(CpuPhase::kDown);
}

void CpuStep::Norm(const CpuNorm& norm, LoraSite site) {
  ForRows(rows_, [&](int32_t begin, int32_t end) {
    for (int64_t row = begin; row < end; ++row) NormRow(norm, site, row);
  });
}

void CpuStep::NormRow(const CpuNorm& norm, LoraSite site, int64_t row) {
  kernels::bf16_t* normed = scratch_.normed + row * shape_.hidden_stride;
  if (Int8()) {
    NormQuantised(norm, row, row, HasLora(site) ? normed : nullptr);
    return;
  }
  NormOf(config_, kernels_)(scratch_.x + row * shape_.hidden_width, norm.weight,
                            norm.bias, shape_.hidden, shape_.hidden_width,
                            config_.norm_eps, normed);
}

void CpuStep::Head() {
  const Batch& batch = *state_.batch;
  const kernels::NormFn function = NormOf(config_, kernels_);
  const CpuNorm& norm = state_.weights->final_norm();
  ForRows(batch.outputs(), [&](int32_t begin, int32_t end) {
    for (int64_t output = begin; output < end; ++output) {
      const int64_t row = batch.output_rows[output];
      if (Int8()) {
        NormQuantised(norm, row, output, nullptr);
        continue;
      }
      function(scratch_.x + row * shape_.hidden_width, norm.weight, norm.bias,
               shape_.hidden, shape_.hidden_width, config_.norm_eps,
               scratch_.final_normed + output * shape_.hidden_stride);
    }
  });
  const Product product = {scratch_.final_normed, shape_.hidden_stride,
                           shape_.hidden_pairs, state_.weights->head(),
                           scratch_.normed_int8};
  const float cap = config_.final_logit_cap;
  beside_ = {};
  ForBlocks(shape_.vocab_width / kColumnBlock, batch.outputs(),
            [&](int32_t block, int32_t begin, int32_t end) {
              float* c = scratch_.logits +
                         int64_t{begin} * shape_.logits_stride +
                         block * kColumnBlock;
              Multiply(product, block, begin, end, c, shape_.logits_stride);
              if (cap > 0) {
                kernels_.soft_cap(end - begin, cap, c, shape_.logits_stride);
              }
            });
}

void CpuStep::Sample() {
  const Batch& batch = *state_.batch;
  ForEach(static_cast<int32_t>(batch.sequences.size()), [&](int32_t index) {
    const BatchSequence& sequence = batch.sequences[index];
    if (sequence.output != OutputKind::kTokens) return;
    bool more = true;
    for (int32_t output = sequence.output_begin;
         more && output < sequence.output_end; ++output) {
      const float* logits =
          scratch_.logits + int64_t{output} * shape_.logits_stride;
      more = SampleOutput(batch, index, output,
                          plan_.rows[batch.output_rows[output]].token,
                          absl::MakeConstSpan(logits, config_.vocab_size),
                          mine_.sampler, state_.output);
    }
    const int32_t results = state_.output->sequences[index].end;
    for (int32_t output = results; output < sequence.output_end; ++output) {
      DropRow(batch.output_rows[output]);
    }
  });
}

// The row of a draft that was wrong. Its keys and values are masked until they
// are overwritten; only what is not finite would show through. Such values
// are in all that follows from them, the row's end included.
void CpuStep::DropRow(int64_t row) {
  const float* x = scratch_.x + row * shape_.hidden_width;
  if (std::all_of(x, x + shape_.hidden,
                  [](float v) { return std::isfinite(v); })) {
    return;
  }
  const PlanRow& plan = plan_.rows[row];
  for (int32_t layer = 0; layer < config_.num_layers; ++layer) {
    state_.kv->ClearToken(layer, plan.block, plan.position % kBlockSize);
  }
}

void RunCpuStep(CpuStepState* state, int32_t worker) {
  CpuStep(state, worker).Run();
}

}  // namespace descant
