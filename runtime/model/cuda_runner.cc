#include "runtime/model/cuda_runner.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/adapter.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/adapter_sites.h"
#include "runtime/model/cuda_device.h"
#include "runtime/model/logprob_comparison.h"
#include "runtime/model/merged_weight_source.h"
#include "runtime/model/sampler.h"

namespace descant {
namespace {

// Adapters, of what is free once the weights are there; KV cache, of what all
// else has left: the rest is for what the library allocates as it computes
// (workspaces, results of its attention) and for graphs.
constexpr double kAdapterShare = 0.15;
constexpr double kKvShare = 0.9;

uint64_t ShareOf(uint64_t wanted, uint64_t free, double share) {
  return wanted != 0 ? wanted
                     : static_cast<uint64_t>(static_cast<double>(free) * share);
}

// Enough for every sequence at full length.
uint64_t MostKvBytes(const ModelConfig& config, const BatchLimits& limits) {
  return uint64_t{1} * limits.max_sequences * limits.max_blocks_per_sequence *
         CudaKvCache::BlockBytes(config);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Runner>> MakeCudaRunner(
    std::shared_ptr<const Model> model, const RunnerOptions& options) {
  DESCANT_ASSIGN_OR_RETURN(std::unique_ptr<Device> device,
                           MakeCudaDevice(0, kernels::HalfType::kBf16));
  if (options.weights != WeightType::kBf16) {
    return absl::InvalidArgumentError("a GPU has bf16 weights only");
  }
  if (options.adapter_weights != AdapterWeightType::kBf16) {
    return absl::InvalidArgumentError("a GPU has bf16 adapters only");
  }
  return CudaRunner::Create(std::move(model), options, std::move(device));
}

CudaRunner::CudaRunner(std::shared_ptr<const Model> model,
                       const RunnerOptions& options,
                       std::unique_ptr<Device> device)
    : model_(std::move(model)),
      limits_(options.limits),
      device_(std::move(device)) {}

absl::StatusOr<std::unique_ptr<CudaRunner>> CudaRunner::Create(
    std::shared_ptr<const Model> model, const RunnerOptions& options,
    std::unique_ptr<Device> device, uint64_t gather_bytes) {
  std::unique_ptr<CudaRunner> runner(
      new CudaRunner(std::move(model), options, std::move(device)));
  const ModelConfig& config = runner->model_->config;
  Device* const gpu = runner->device_.get();
  DESCANT_ASSIGN_OR_RETURN(
      runner->weights_,
      CudaWeights::Load(config, *runner->model_->weights, gpu));
  DESCANT_ASSIGN_OR_RETURN(const uint64_t free, gpu->FreeBytes());
  DESCANT_ASSIGN_OR_RETURN(
      runner->adapters_,
      CudaAdapterPool::Create(
          config, options.limits.max_slots,
          ShareOf(options.adapter_bytes, free, kAdapterShare), gpu));
  DESCANT_ASSIGN_OR_RETURN(
      runner->sampling_,
      CudaStepSampling::Create(config.vocab_size, options.limits, gpu));
  DESCANT_ASSIGN_OR_RETURN(
      runner->step_, CudaStep::Create({&config, runner->weights_.get(),
                                       &runner->kv_, runner->adapters_.get(),
                                       runner->sampling_->last_tokens(), gpu},
                                      options.limits, gather_bytes));
  DESCANT_ASSIGN_OR_RETURN(uint64_t left, gpu->FreeBytes());
  left -= std::min(left, options.merged_bytes);
  const uint64_t library_bytes = left - ShareOf(0, left, kKvShare);
  const uint64_t kv_bytes =
      std::min(ShareOf(options.kv_bytes, left, kKvShare),
               std::max(options.kv_bytes, MostKvBytes(config, options.limits)));
  DESCANT_ASSIGN_OR_RETURN(runner->kv_,
                           CudaKvCache::Create(config, kv_bytes, gpu));
  DESCANT_ASSIGN_OR_RETURN(runner->host_arrays_,
                           gpu->AllocateHost(runner->step_->layout().size));
  DESCANT_ASSIGN_OR_RETURN(const uint64_t unused, gpu->FreeBytes());
  runner->merged_room_ = std::make_shared<std::atomic<int64_t>>(
      static_cast<int64_t>(unused - std::min(unused, library_bytes)));
  return runner;
}

absl::Status CudaRunner::Check(const Batch& batch) const {
  DESCANT_CHECK(batch.rows() <= limits_.max_rows);
  DESCANT_CHECK(batch.outputs() <= limits_.max_outputs);
  for (const int32_t position : batch.positions) {
    DESCANT_CHECK(position < step_->positions());
  }
  for (const BatchSequence& sequence : batch.sequences) {
    if (sequence.output == OutputKind::kPooled) {
      return absl::UnimplementedError("pooled output of a decoder");
    }
  }
  return absl::OkStatus();
}

absl::Status CudaRunner::Launch(const Batch& batch) {
  DESCANT_RETURN_IF_ERROR(Check(batch));
  rehearsed_last_ = std::exchange(rehearsed_next_, std::nullopt);
  batch_ = &batch;
  LayOutStepOutput(batch, model_->config.vocab_size, &output_);
  result_ = batch.empty() ? absl::OkStatus() : Enqueue(batch);
  return absl::OkStatus();
}

const std::shared_ptr<const CudaWeights>& CudaRunner::WeightsOf(
    const MergedWeights* merged) const {
  return merged == nullptr
             ? weights_
             : static_cast<const CudaMergedWeights*>(merged)->weights();
}

absl::Status CudaRunner::EnqueuePass(const Batch& batch,
                                     const MergedWeights* merged,
                                     Adapters adapters) {
  static constexpr CudaAdapter kNothing;
  CudaStepShape shape;
  uint64_t bytes = 0;
  const auto adapter_in = [&](int32_t slot) -> const CudaAdapter& {
    if (adapters == Adapters::kLeftOut) return kNothing;
    const CudaAdapter* adapter = adapters_->Find(slot);
    DESCANT_CHECK(adapter != nullptr);
    return *adapter;
  };
  if (!FillStep(batch, limits_, adapter_in, step_->layout(),
                host_arrays_.data(), &shape, &bytes, &chunks_)) {
    return absl::UnimplementedError(
        absl::StrCat("more than ", kMaxLoraRounds, " adapters on a row"));
  }
  DESCANT_RETURN_IF_ERROR(
      device_->CopyToDevice(step_->arrays(), host_arrays_.data(), bytes));
  return step_->Run(WeightsOf(merged), shape, chunks_);
}

absl::Status CudaRunner::Enqueue(const Batch& batch) {
  DESCANT_RETURN_IF_ERROR(EnqueuePass(
      batch, batch.merged,
      batch.merged == nullptr ? Adapters::kOnTop : Adapters::kLeftOut));
  if (batch.outputs() == 0) return absl::OkStatus();
  return sampling_->Enqueue(batch, output_, step_->logits(),
                            step_->logits_stride(), step_->tokens());
}

// An error that the device has not outlived is what every later call returns.
const absl::Status& CudaRunner::Judge() {
  if (!result_.ok()) health_.Update(device_->Synchronize());
  return result_;
}

absl::StatusOr<const StepOutput*> CudaRunner::Collect() {
  DESCANT_RETURN_IF_ERROR(Judge());
  if (!batch_->empty()) {
    result_ = device_->Synchronize();
    DESCANT_RETURN_IF_ERROR(Judge());
    if (batch_->outputs() > 0) sampling_->Collect(&output_);
  }
  return &output_;
}

uint64_t CudaRunner::MergedBytes(const Adapter& adapter) const {
  const auto shapes =
      adapter.modules.empty()
          ? std::make_shared<const Adapter>(
                WithModulesOfKinds(model_->base_shape, adapter))
          // (Not owned: the source does not outlive the call.)
          : std::shared_ptr<const Adapter>(std::shared_ptr<void>(), &adapter);
  return CudaWeights::MergedBytes(
      model_->config,
      MergedWeightSource(model_->config, model_->weights.get(), shapes));
}

uint64_t CudaRunner::MostMergedBytes() const {
  return descant::MostMergedBytes(*model_);
}

absl::StatusOr<std::shared_ptr<const void>> CudaRunner::TakeMergedRoom(
    int64_t bytes) const {
  const int64_t room = merged_room_->fetch_sub(bytes);
  std::shared_ptr<const void> taken(
      nullptr, [all = merged_room_, bytes](const void*) { *all += bytes; });
  if (room >= bytes) return taken;
  return absl::ResourceExhaustedError(absl::StrCat(
      "merged weights take ", bytes,
      " bytes of the GPU: ", std::max<int64_t>(room, 0), " are left for them"));
}

absl::StatusOr<std::shared_ptr<const MergedWeights>> CudaRunner::MergeAdapter(
    const std::shared_ptr<const Adapter>& adapter) const {
  DESCANT_ASSIGN_OR_RETURN(
      std::shared_ptr<const void> room,
      TakeMergedRoom(static_cast<int64_t>(MergedBytes(*adapter))));
  DESCANT_ASSIGN_OR_RETURN(
      std::shared_ptr<const CudaWeights> weights,
      CudaWeights::Merge(
          model_->config,
          MergedWeightSource(model_->config, model_->weights.get(), adapter),
          *weights_, device_.get()));
  return std::make_shared<const CudaMergedWeights>(std::move(room),
                                                   std::move(weights));
}

absl::Status CudaRunner::Rehearse(const Batch& batch,
                                  const MergedWeights* merged) {
  DESCANT_RETURN_IF_ERROR(Check(batch));
  DESCANT_CHECK(std::find(batch.tokens.begin(), batch.tokens.end(),
                          kTokenFromLastStep) == batch.tokens.end());
  if (merged != nullptr) rehearsed_next_.reset();
  if (batch.empty()) return absl::OkStatus();
  absl::Status status = EnqueuePass(batch, merged, Adapters::kLeftOut);
  status.Update(device_->Synchronize());
  if (status.ok() && merged != nullptr) {
    absl::StatusOr<std::vector<float>> logits = TakeLogits(batch.outputs());
    status = logits.status();
    if (logits.ok()) rehearsed_next_ = *std::move(logits);
  }
  // (result_ is of the step before.)
  if (!status.ok()) health_.Update(device_->Synchronize());
  return status;
}

absl::StatusOr<LogprobDifference> CudaRunner::CompareWithRehearsal() {
  if (!rehearsed_last_.has_value()) {
    return absl::FailedPreconditionError(
        "the last step was not rehearsed with merged weights");
  }
  DESCANT_RETURN_IF_ERROR(result_);
  const auto stride = static_cast<size_t>(step_->logits_stride());
  const auto vocab = static_cast<size_t>(model_->config.vocab_size);
  const size_t outputs = rehearsed_last_->size() / stride;
  DESCANT_ASSIGN_OR_RETURN(const std::vector<float> computed,
                           TakeLogits(static_cast<int32_t>(outputs)));
  LogprobDifference difference;
  for (size_t i = 0; i < outputs; ++i) {
    difference.Add(CompareLogits({rehearsed_last_->data() + i * stride, vocab},
                                 {computed.data() + i * stride, vocab}));
  }
  return difference;
}

absl::StatusOr<std::vector<float>> CudaRunner::TakeLogits(int32_t outputs) {
  std::vector<float> logits(static_cast<size_t>(outputs) *
                            static_cast<size_t>(step_->logits_stride()));
  if (logits.empty()) return logits;
  DESCANT_RETURN_IF_ERROR(device_->CopyToHost(logits.data(), step_->logits(),
                                              logits.size() * sizeof(float)));
  DESCANT_RETURN_IF_ERROR(device_->Synchronize());
  return logits;
}

absl::StatusOr<std::shared_ptr<const AdapterImage>> CudaRunner::PackAdapter(
    const std::shared_ptr<const Adapter>& adapter) const {
  return adapters_->Pack(*adapter);
}

absl::Status CudaRunner::LoadImage(
    int32_t slot, const std::shared_ptr<const AdapterImage>& image) {
  DESCANT_CHECK(slot >= 0 && slot < limits_.max_slots);
  return adapters_->Load(slot, static_cast<const CudaImage&>(*image));
}

void CudaRunner::UnloadAdapter(int32_t slot) { adapters_->Unload(slot); }

uint64_t CudaRunner::AdapterBytes(const Adapter& adapter) const {
  return adapters_->Bytes(adapter);
}

// Kernels never use what lies behind a sequence's last position: this is so
// that what a faulty sequence computed does not stay.
void CudaRunner::ClearBlocks(absl::Span<const int32_t> blocks) {
  const ModelConfig& config = model_->config;
  // The arrays' place is free: no step is in flight.
  const uint64_t room = step_->layout().size / sizeof(int32_t);
  while (!blocks.empty() && result_.ok()) {
    const auto some = blocks.first(std::min<size_t>(blocks.size(), room));
    blocks.remove_prefix(some.size());
    std::copy(some.begin(), some.end(), host_arrays_.data<int32_t>());
    result_.Update(device_->CopyToDevice(step_->arrays(), host_arrays_.data(),
                                         some.size() * sizeof(int32_t)));
    for (int32_t layer = 0; layer < config.num_layers; ++layer) {
      kernels::ClearBlocksArgs args;
      args.kv = kv_.Layer(layer);
      args.blocks = reinterpret_cast<const int32_t*>(step_->arrays());
      args.count = static_cast<int32_t>(some.size());
      args.kv_heads = config.num_kv_heads;
      args.head_dim = config.head_dim;
      args.stream = device_->stream();
      result_.Update(device_->Launch(device_->kernels().clear_blocks, args));
    }
    result_.Update(device_->Synchronize());
  }
  Judge();
}

std::string CudaRunner::Describe() const {
  return absl::StrCat(
      "cuda, ", device_->Describe(), ", ",
      device_->half() == kernels::HalfType::kBf16 ? "bf16" : "fp16",
      " weights");
}

}  // namespace descant
