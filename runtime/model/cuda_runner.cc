#include "runtime/model/cuda_runner.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/adapter.h"
#include "runtime/base/check.h"
#include "runtime/base/float16.h"
#include "runtime/base/status_macros.h"

namespace descant {
namespace {

constexpr uint64_t kHalfBytes = 2;
// Of what is free once the weights are there: KV cache and adapters.
constexpr double kKvShare = 0.7;
constexpr double kAdapterShare = 0.15;

uint64_t ShareOf(uint64_t wanted, uint64_t free, double share) {
  return wanted != 0 ? wanted
                     : static_cast<uint64_t>(static_cast<double>(free) * share);
}

// Enough for every sequence at full length.
uint64_t MostKvBytes(const ModelConfig& config, const BatchLimits& limits) {
  return uint64_t{1} * limits.max_sequences * limits.max_blocks_per_sequence *
         CudaKvCache::BlockBytes(config);
}

void ToFloats(kernels::HalfType half, const uint16_t* from,
              absl::Span<float> to) {
  for (size_t i = 0; i < to.size(); ++i) {
    to[i] = half == kernels::HalfType::kBf16 ? ToFloat(BFloat16{from[i]})
                                             : ToFloat(Float16{from[i]});
  }
}

// c * tanh(x / c)
void CapLogits(float cap, absl::Span<float> logits) {
  if (cap == 0) return;
  for (float& logit : logits) logit = cap * std::tanh(logit / cap);
}

}  // namespace

CudaRunner::CudaRunner(std::shared_ptr<const Model> model,
                       const RunnerOptions& options,
                       std::unique_ptr<Device> device)
    : model_(std::move(model)),
      limits_(options.limits),
      device_(std::move(device)),
      sampler_(model_->config.vocab_size),
      row_logits_(model_->config.vocab_size),
      last_tokens_(options.limits.max_sequences) {}

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
  const uint64_t kv_bytes =
      std::min(ShareOf(options.kv_bytes, free, kKvShare),
               std::max(options.kv_bytes, MostKvBytes(config, options.limits)));
  DESCANT_ASSIGN_OR_RETURN(runner->kv_,
                           CudaKvCache::Create(config, kv_bytes, gpu));
  DESCANT_ASSIGN_OR_RETURN(
      runner->step_,
      CudaStep::Create({&config, runner->weights_.get(), &runner->kv_,
                        runner->adapters_.get(), gpu},
                       options.limits, gather_bytes));
  DESCANT_ASSIGN_OR_RETURN(runner->host_arrays_,
                           gpu->AllocateHost(runner->step_->layout().size));
  DESCANT_ASSIGN_OR_RETURN(
      runner->host_logits_,
      gpu->AllocateHost(kHalfBytes * options.limits.max_outputs *
                        runner->step_->logits_stride()));
  return runner;
}

absl::Status CudaRunner::Launch(const Batch& batch) {
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
  batch_ = &batch;
  LayOutStepOutput(batch, model_->config.vocab_size, &output_);
  result_ = batch.empty() ? absl::OkStatus() : Enqueue(batch);
  return absl::OkStatus();
}

absl::Status CudaRunner::Enqueue(const Batch& batch) {
  CudaStepShape shape;
  uint64_t bytes = 0;
  const auto adapter_in = [this](int32_t slot) -> const CudaAdapter& {
    const CudaAdapter* adapter = adapters_->Find(slot);
    DESCANT_CHECK(adapter != nullptr);
    return *adapter;
  };
  if (!FillStep(batch, limits_, last_tokens_, adapter_in, step_->layout(),
                host_arrays_.data(), &shape, &bytes, &chunks_)) {
    return absl::UnimplementedError(
        absl::StrCat("more than ", kMaxLoraRounds, " adapters on a row"));
  }
  DESCANT_RETURN_IF_ERROR(
      device_->CopyToDevice(step_->arrays(), host_arrays_.data(), bytes));
  DESCANT_RETURN_IF_ERROR(step_->Run(shape, chunks_));
  if (batch.outputs() == 0) return absl::OkStatus();
  return device_->CopyToHost(
      host_logits_.data(), step_->logits(),
      kHalfBytes * batch.outputs() * step_->logits_stride());
}

absl::StatusOr<const StepOutput*> CudaRunner::Collect() {
  DESCANT_RETURN_IF_ERROR(result_);
  if (!batch_->empty()) {
    result_ = device_->Synchronize();
    DESCANT_RETURN_IF_ERROR(result_);
    Sample(*batch_);
  }
  return &output_;
}

void CudaRunner::Sample(const Batch& batch) {
  const absl::Span<float> logits = absl::MakeSpan(row_logits_);
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const BatchSequence& sequence = batch.sequences[i];
    for (int32_t output = sequence.output_begin; output < sequence.output_end;
         ++output) {
      ToFloats(device_->half(),
               host_logits_.data<uint16_t>() +
                   int64_t{output} * step_->logits_stride(),
               logits);
      CapLogits(model_->config.final_logit_cap, logits);
      const int32_t token = batch.tokens[batch.output_rows[output]];
      if (!SampleOutput(batch, static_cast<int32_t>(i), output,
                        token == kTokenFromLastStep
                            ? last_tokens_[sequence.state_slot]
                            : token,
                        logits, &sampler_, &output_)) {
        break;
      }
    }
  }
  RememberLastTokens(output_, &last_tokens_);
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
}

std::string CudaRunner::Describe() const {
  return absl::StrCat(
      "cuda, ", device_->Describe(), ", ",
      device_->half() == kernels::HalfType::kBf16 ? "bf16" : "fp16",
      " weights");
}

}  // namespace descant
