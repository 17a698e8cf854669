#include "runtime/model/cpu_runner.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/adapter.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/kernels/cpu/brgemm.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/packing.h"
#include "runtime/model/adapter_sites.h"
#include "runtime/model/cpu_merged_weights.h"
#include "runtime/model/logprob_comparison.h"
#include "runtime/model/memory_layout.h"

namespace descant {
namespace {

using kernels::bf16_t;

// Likeliest tokens that outputs have room for from the start; the server allows
// no more.
constexpr int32_t kUsualTop = 20;

uint64_t PhysicalMemory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGE_SIZE);
  if (pages <= 0 || page <= 0) return uint64_t{4} << 30;
  return static_cast<uint64_t>(pages) * static_cast<uint64_t>(page);
}

// Enough for every sequence at full length, within a quarter of memory.
uint64_t DefaultKvBytes(const ModelConfig& config, const BatchLimits& limits) {
  const uint64_t blocks =
      uint64_t{1} * limits.max_sequences * limits.max_blocks_per_sequence;
  return std::min(blocks * KvCache::BlockBytes(config), PhysicalMemory() / 4);
}

QuantisedRows TakeQuantised(int64_t rows, int64_t stride,
                            MemoryLayout* layout) {
  QuantisedRows out;
  out.values = layout->Take<uint8_t>(rows * stride);
  out.stride = stride;
  out.scales = layout->Take<float>(rows);
  return out;
}

void LayOutQuantised(int64_t rows, const CpuShape& shape, MemoryLayout* layout,
                     CpuStepState* state) {
  CpuScratch& scratch = state->scratch;
  scratch.normed_int8 = TakeQuantised(rows, shape.hidden_bytes, layout);
  scratch.attended_int8 = TakeQuantised(rows, shape.q_bytes, layout);
  scratch.activated_int8 = TakeQuantised(rows, shape.mlp_bytes, layout);
  for (CpuWorkerScratch& worker : state->workers) {
    worker.quantised = TakeQuantised(
        kOwnQuantisedRows, std::max(shape.q_bytes, shape.mlp_bytes), layout);
  }
}

void LayOutScratch(const ModelConfig& config, const BatchLimits& limits,
                   const CpuShape& shape, int32_t padded_dim,
                   MemoryLayout* layout, CpuStepState* state) {
  const int64_t rows = limits.max_rows;
  const int64_t outputs = limits.max_outputs;
  CpuScratch& scratch = state->scratch;
  scratch.x = layout->Take<float>(rows * shape.hidden_width);
  scratch.qkv = layout->Take<float>(rows * shape.qkv_width);
  scratch.logits = layout->Take<float>(outputs * shape.logits_stride);
  scratch.normed = layout->Take<bf16_t>(rows * shape.hidden_stride);
  scratch.q = layout->Take<bf16_t>(rows * shape.q_stride);
  scratch.attended = layout->Take<bf16_t>(rows * shape.q_stride);
  scratch.activated = layout->Take<bf16_t>(rows * shape.mlp_stride);
  scratch.final_normed = layout->Take<bf16_t>(outputs * shape.hidden_stride);
  scratch.projected = config.post_norms
                          ? layout->Take<float>(rows * shape.hidden_width)
                          : nullptr;
  scratch.sums_stride =
      std::max(shape.hidden_width, shape.mlp_slices * shape.mlp_width) +
      kernels::kColumnBlock;  // no multiple of a page
  scratch.sums = layout->Take<float>(std::min<int64_t>(rows, kMaxRowsByRow) *
                                     scratch.sums_stride);
  scratch.partials =
      layout->Take<float>(state->attention_sizes.split_rows *
                          kernels::AttentionPartialFloats(1, padded_dim));
  const int64_t attention = kernels::AttentionWorkspaceBytes(
      config.num_heads / config.num_kv_heads, config.head_dim, padded_dim);
  const bool groups = state->weights->head().type == WeightType::kInt4;
  const int64_t deepest =
      std::max({shape.hidden_pairs, shape.q_pairs, shape.mlp_pairs});
  for (CpuWorkerScratch& worker : state->workers) {
    for (float*& tile : worker.tiles) {
      tile = layout->Take<float>(kGemmRows * kernels::kColumnBlock);
    }
    worker.head = layout->Take<float>(
        kernels::RoundUp(config.head_dim, kernels::kRankBlock));
    worker.k = layout->Take<bf16_t>(config.head_dim);
    worker.v = layout->Take<bf16_t>(config.head_dim);
    worker.attention = layout->Take<std::byte>(attention);
    for (bf16_t*& block : worker.expanded) {
      block = groups ? layout->Take<bf16_t>(deepest * 2 * kernels::kColumnBlock)
                     : nullptr;
    }
    for (auto& expands : worker.expands) {
      expands.reserve(limits.max_sequences);
    }
    // Blocks of two slices at most. With them A for a share of the shrinks; or
    // keys and values.
    worker.soon.reserve(2 * limits.max_sequences);
    worker.later.reserve(
        std::max(2 * limits.max_sequences + limits.max_rows, kFetchedKvBlocks));
  }
  if (state->weights->type() == WeightType::kInt8) {
    LayOutQuantised(std::max(rows, outputs), shape, layout, state);
  }
}

AttentionSizes SizesOf(const ModelConfig& config,
                       const kernels::CpuKernels& kernels, int32_t workers) {
  AttentionSizes sizes;
  sizes.group = config.num_heads / config.num_kv_heads;
  sizes.kv_heads = config.num_kv_heads;
  const bool can_split = kernels.attention_part != nullptr && workers > 1;
  sizes.split_items = can_split ? 8 * workers : 0;
  sizes.split_rows = can_split ? int64_t{1024} * workers : 0;
  return sizes;
}

// What each worker prepares for the library's micro-kernel.
struct BrgemmRegion {
  const CpuShape* shape;
  std::vector<absl::Status> status;
};

absl::Status PrepareShapes(const CpuShape& shape) {
  constexpr int64_t kTile = kernels::kColumnBlock;
  DESCANT_RETURN_IF_ERROR(kernels::BrgemmPrepare(
      shape.hidden_pairs, shape.hidden_stride, shape.qkv_width));
  DESCANT_RETURN_IF_ERROR(kernels::BrgemmPrepare(
      shape.hidden_pairs, shape.hidden_stride, shape.logits_stride));
  DESCANT_RETURN_IF_ERROR(
      kernels::BrgemmPrepare(shape.hidden_pairs, shape.hidden_stride, kTile));
  DESCANT_RETURN_IF_ERROR(
      kernels::BrgemmPrepare(shape.q_pairs, shape.q_stride, kTile));
  DESCANT_RETURN_IF_ERROR(
      kernels::BrgemmPrepare(shape.mlp_pairs, shape.mlp_stride, kTile));
  // Projections behind a post norm.
  DESCANT_RETURN_IF_ERROR(kernels::BrgemmPrepare(shape.q_pairs, shape.q_stride,
                                                 shape.hidden_width));
  return kernels::BrgemmPrepare(shape.mlp_pairs, shape.mlp_stride,
                                shape.hidden_width);
}

void PrepareTask(void* context, int32_t worker) {
  BrgemmRegion& region = *static_cast<BrgemmRegion*>(context);
  region.status[worker] = PrepareShapes(*region.shape);
  kernels::BrgemmRelease();
}

// A step of up to so many rows may take LoRA by rows.
int32_t MostRowsByRow(const CpuStepState& state) {
  const kernels::CpuKernels& kernels = *state.kernels;
  // The library's kernels are prepared for other strides.
  if (kernels.gemm_is_brgemm) return 0;
  // Larger products fetch what they read by columns.
  if (FetchesBeside(state, kMaxRowsByRow)) return kernels.gemm_beside_from - 1;
  return kMaxRowsByRow;
}

void StepTask(void* context, int32_t worker) {
  RunCpuStep(static_cast<CpuStepState*>(context), worker);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Runner>> MakeCpuRunner(
    std::shared_ptr<const Model> model, const RunnerOptions& options) {
  return CpuRunner::Create(std::move(model), options);
}

CpuRunner::CpuRunner(std::shared_ptr<const Model> model,
                     const RunnerOptions& options)
    : model_(std::move(model)),
      limits_(options.limits),
      pool_(options.threads),
      last_tokens_(options.limits.max_sequences) {}

absl::StatusOr<std::unique_ptr<CpuRunner>> CpuRunner::Create(
    std::shared_ptr<const Model> model, const RunnerOptions& options) {
  std::unique_ptr<CpuRunner> runner(new CpuRunner(std::move(model), options));
  const ModelConfig& config = runner->model_->config;
  if (config.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head size ", config.head_dim, " is odd"));
  }
  if (options.weights == WeightType::kInt8 &&
      std::max({config.hidden_size, config.intermediate_size,
                config.num_heads * config.head_dim}) > kernels::kInt8MaxDepth) {
    return absl::InvalidArgumentError(
        "a layer is too wide for int8: its sums would overflow");
  }
  DESCANT_RETURN_IF_ERROR(runner->ChooseKernels(options.adapter_weights));
  const PackedWeightsPlace place = {
      options.weights_cache,
      absl::StrCat("descant packed 1\n", runner->model_->base_shape.fingerprint,
                   "\n", runner->state_.kernels->name, "\n",
                   WeightTypeName(options.weights))};
  DESCANT_ASSIGN_OR_RETURN(
      runner->weights_,
      CpuWeights::Load(config, *runner->model_->weights,
                       BlockFormatOf(options.weights), &runner->pool_, place));
  DESCANT_ASSIGN_OR_RETURN(
      runner->kv_,
      KvCache::Create(config, options.kv_bytes != 0
                                  ? options.kv_bytes
                                  : DefaultKvBytes(config, options.limits)));
  DESCANT_ASSIGN_OR_RETURN(
      runner->adapters_,
      AdapterPool::Create(config, options.adapter_weights,
                          options.limits.max_slots,
                          options.adapter_bytes != 0 ? options.adapter_bytes
                                                     : PhysicalMemory() / 8));
  DESCANT_RETURN_IF_ERROR(runner->AllocateScratch());
  runner->FillRopeTables();
  DESCANT_RETURN_IF_ERROR(runner->PrepareBrgemm());
  return runner;
}

absl::Status CpuRunner::ChooseKernels(AdapterWeightType adapters) {
  DESCANT_ASSIGN_OR_RETURN(const kernels::CpuIsa isa, kernels::ChooseCpuIsa());
  DESCANT_ASSIGN_OR_RETURN(state_.kernels, kernels::KernelsFor(isa));
  state_.lora_type = adapters;
  state_.lora = adapters == AdapterWeightType::kInt8 ? state_.kernels->lora_int8
                                                     : state_.kernels->lora;
  return absl::OkStatus();
}

absl::Status CpuRunner::PrepareBrgemm() {
  if (!state_.kernels->gemm_is_brgemm) return absl::OkStatus();
  BrgemmRegion region;
  region.shape = &weights_->shape();
  region.status.resize(pool_.size());
  pool_.Run(&PrepareTask, &region);
  absl::Status status;
  for (const absl::Status& worker : region.status) status.Update(worker);
  return status;
}

absl::Status CpuRunner::AllocateScratch() {
  state_.config = &model_->config;
  state_.weights = weights_.get();
  state_.pool = &pool_;
  state_.kv = &kv_;
  state_.output = &output_;
  state_.workers.resize(pool_.size());
  state_.attention_sizes =
      SizesOf(model_->config, *state_.kernels, pool_.size());
  state_.counters = std::vector<ItemCounter>(kCounterPhases * pool_.size());
  MemoryLayout count(nullptr);
  LayOutScratch(model_->config, limits_, weights_->shape(), kv_.padded_dim(),
                &count, &state_);
  DESCANT_ASSIGN_OR_RETURN(scratch_, kernels::Arena::Create(count.size()));
  MemoryLayout layout(scratch_.data());
  LayOutScratch(model_->config, limits_, weights_->shape(), kv_.padded_dim(),
                &layout, &state_);
  for (CpuWorkerScratch& worker : state_.workers) {
    samplers_.push_back(
        std::make_unique<SamplerScratch>(model_->config.vocab_size));
    worker.sampler = samplers_.back().get();
  }
  ReservePlan(limits_, &state_.plan);
  output_.sequences.reserve(limits_.max_sequences);
  output_.sampled.reserve(limits_.max_outputs);
  output_.top.reserve(limits_.max_outputs * kUsualTop);
  return absl::OkStatus();
}

void CpuRunner::FillRopeTables() {
  const ModelConfig& config = model_->config;
  positions_ = static_cast<int32_t>(
      std::min<int64_t>(config.max_position,
                        int64_t{kBlockSize} * limits_.max_blocks_per_sequence));
  state_.rope.resize(config.num_layers);
  if (config.position == PositionKind::kLearned) return;
  const auto fill = [&](const RopeConfig& rope, RopeRotations* rotations) {
    *rotations = MakeRopeRotations(rope, config.head_dim, positions_);
    return RopeTable{rotations->cos.data(), rotations->sin.data(),
                     rotations->pairs};
  };
  const RopeTable all = fill(config.rope, &rotations_[0]);
  RopeTable windowed = all;
  if (config.window_rope.has_value()) {
    windowed = fill(*config.window_rope, &rotations_[1]);
  }
  for (int32_t layer = 0; layer < config.num_layers; ++layer) {
    state_.rope[layer] = WindowOf(config, layer) > 0 ? windowed : all;
  }
}

absl::Status CpuRunner::Launch(const Batch& batch) {
  DESCANT_CHECK(batch.rows() <= limits_.max_rows);
  DESCANT_CHECK(batch.outputs() <= limits_.max_outputs);
  for (const int32_t position : batch.positions) {
    DESCANT_CHECK(position < positions_);
  }
  for (const BatchSequence& sequence : batch.sequences) {
    if (sequence.output == OutputKind::kPooled) {
      return absl::UnimplementedError("pooled output of a decoder");
    }
  }
  result_ = absl::OkStatus();
  if (batch.empty()) {
    LayOutStepOutput(batch, model_->config.vocab_size, &output_);
    return absl::OkStatus();
  }
  if (batch.merged != nullptr) {
    Compute(batch, static_cast<const CpuMergedWeights*>(batch.merged)->layers(),
            /*with_adapters=*/false);
  } else {
    Compute(batch, weights_->layers(), /*with_adapters=*/true);
  }
  RememberLastTokens(output_, &last_tokens_);
  return absl::OkStatus();
}

void CpuRunner::Compute(const Batch& batch, const CpuLayerWeights* layers,
                        bool with_adapters) {
  state_.batch = &batch;
  state_.layers = layers;
  LayOutStepOutput(batch, model_->config.vocab_size, &output_);
  FillPlan(batch, last_tokens_, *adapters_, with_adapters,
           state_.attention_sizes, &state_.plan);
  FillRowItems(2 * pool_.size(), MostRowsByRow(state_), &state_.plan);
  for (ItemCounter& counter : state_.counters) {
    counter.taken.store(0, std::memory_order_relaxed);
  }
  pool_.Run(&StepTask, &state_);
  result_ = kernels::BrgemmTakeError();
}

absl::StatusOr<const StepOutput*> CpuRunner::Collect() {
  if (!result_.ok()) return result_;
  return &output_;
}

absl::StatusOr<std::shared_ptr<const AdapterImage>> CpuRunner::PackAdapter(
    const std::shared_ptr<const Adapter>& adapter) const {
  return adapters_->Pack(*adapter);
}

absl::Status CpuRunner::LoadImage(
    int32_t slot, const std::shared_ptr<const AdapterImage>& image) {
  DESCANT_CHECK(slot >= 0 && slot < limits_.max_slots);
  return adapters_->Load(slot, static_cast<const PackedImage&>(*image));
}

void CpuRunner::UnloadAdapter(int32_t slot) { adapters_->Unload(slot); }

// Int8 and int4 weights are not rounded as they are multiplied: what BA adds
// would be rounded to their few steps, or lost.
absl::Status CpuRunner::can_merge() const {
  if (weights_->type() == WeightType::kBf16) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("adapters are merged into bf16 weights; those here are ",
                   WeightTypeName(weights_->type()),
                   ", and would have to be quantised anew, which loses more "
                   "of an adapter than merging saves"));
}

uint64_t CpuRunner::MergedBytes(const Adapter& adapter) const {
  if (!adapter.modules.empty()) {
    return CpuMergedWeights::Bytes(model_->config, *weights_, adapter);
  }
  return CpuMergedWeights::Bytes(
      model_->config, *weights_,
      WithModulesOfKinds(model_->base_shape, adapter));
}

// One that does not say its modules stands for all.
uint64_t CpuRunner::MostMergedBytes() const { return MergedBytes(Adapter()); }

absl::StatusOr<std::shared_ptr<const MergedWeights>> CpuRunner::MergeAdapter(
    const std::shared_ptr<const Adapter>& adapter) const {
  DESCANT_RETURN_IF_ERROR(can_merge());
  return CpuMergedWeights::Build(model_->config, *model_->weights, *weights_,
                                 pool_, adapter);
}

absl::Status CpuRunner::Rehearse(const Batch& batch,
                                 const MergedWeights* merged) {
  DESCANT_CHECK(!batch.empty());
  Compute(batch,
          merged == nullptr
              ? weights_->layers()
              : static_cast<const CpuMergedWeights*>(merged)->layers(),
          /*with_adapters=*/false);
  if (!result_.ok() || merged == nullptr) return result_;
  const int64_t vocabulary = model_->config.vocab_size;
  rehearsed_.resize(batch.outputs() * vocabulary);
  for (int32_t output = 0; output < batch.outputs(); ++output) {
    const absl::Span<const float> logits = Logits(output);
    std::copy(logits.begin(), logits.end(),
              rehearsed_.begin() + output * vocabulary);
  }
  return absl::OkStatus();
}

absl::StatusOr<LogprobDifference> CpuRunner::CompareWithRehearsal() {
  if (rehearsed_.empty()) {
    return absl::FailedPreconditionError(
        "the last step was not rehearsed with merged weights");
  }
  DESCANT_RETURN_IF_ERROR(result_);
  const int64_t vocabulary = model_->config.vocab_size;
  LogprobDifference difference;
  const int64_t outputs = static_cast<int64_t>(rehearsed_.size()) / vocabulary;
  for (int64_t output = 0; output < outputs; ++output) {
    difference.Add(CompareLogits(absl::MakeConstSpan(rehearsed_)
                                     .subspan(output * vocabulary, vocabulary),
                                 Logits(static_cast<int32_t>(output))));
  }
  rehearsed_ = {};
  return difference;
}

uint64_t CpuRunner::AdapterBytes(const Adapter& adapter) const {
  return adapters_->Bytes(adapter);
}

std::string CpuRunner::Describe() const {
  return absl::StrCat("cpu ", state_.kernels->name, ", ",
                      WeightTypeName(weights_->type()), " weights, ",
                      AdapterWeightTypeName(state_.lora_type), " adapters, ",
                      pool_.size(), pool_.size() == 1 ? " thread" : " threads");
}

absl::Span<const float> CpuRunner::Logits(int32_t output) const {
  return absl::MakeConstSpan(
      state_.scratch.logits + int64_t{output} * weights_->shape().logits_stride,
      model_->config.vocab_size);
}

}  // namespace descant
