#include "runtime/model/cuda_step_sampling.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "runtime/base/status_macros.h"
#include "runtime/model/memory_layout.h"

namespace descant {
namespace {

using kernels::CudaAccepted;
using kernels::CudaLogitBias;
using kernels::CudaOutput;
using kernels::CudaOutputKind;
using kernels::CudaSampled;
using kernels::CudaSequenceOutputs;
using kernels::CudaTokenLogprob;

constexpr int64_t kAlignment = 256;
constexpr int64_t kRowFloats = 4;  // rows of logits start at 16 bytes

bool AsksForTooMany(const Batch& batch) {
  return std::any_of(batch.sequences.begin(), batch.sequences.end(),
                     [](const BatchSequence& sequence) {
                       if (sequence.output_begin == sequence.output_end) {
                         return false;
                       }
                       const SamplingParams& params = *sequence.sampling;
                       return std::max(params.top_logprobs,
                                       params.prompt_logprobs) >
                              kernels::kMaxSampleTop;
                     });
}

// Copied to the host's twin; where it will be on the device. (Where there is
// no memory yet it is only counted.)
template <typename T>
const T* Put(const std::vector<T>& from, MemoryLayout* host,
             MemoryLayout* device) {
  T* const to = host->Take<T>(static_cast<int64_t>(from.size()));
  if (to != nullptr) std::copy(from.begin(), from.end(), to);
  return device->Take<T>(static_cast<int64_t>(from.size()));
}

template <typename T>
void Append(absl::Span<const T> from, std::vector<T>* to) {
  to->insert(to->end(), from.begin(), from.end());
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaStepSampling>> CudaStepSampling::Create(
    int32_t vocab_size, const BatchLimits& limits, Device* device) {
  if (vocab_size > kernels::kMaxSampleVocab) {
    return absl::UnimplementedError(
        absl::StrCat("a vocabulary of ", vocab_size, ": at most ",
                     kernels::kMaxSampleVocab, " on a GPU"));
  }
  std::unique_ptr<CudaStepSampling> sampling(
      new CudaStepSampling(vocab_size, device));
  sampling->workspace_stride_ =
      (vocab_size + kRowFloats - 1) / kRowFloats * kRowFloats;
  DESCANT_ASSIGN_OR_RETURN(
      sampling->workspace_,
      device->Allocate(sizeof(float) *
                       static_cast<uint64_t>(limits.max_outputs *
                                             sampling->workspace_stride_)));
  DESCANT_ASSIGN_OR_RETURN(
      sampling->last_tokens_,
      device->Allocate(sizeof(int32_t) *
                       static_cast<uint64_t>(limits.max_sequences)));
  return sampling;
}

absl::Status CudaStepSampling::Reserve(uint64_t bytes, Mirrored* memory) {
  if (bytes <= memory->host.size()) return absl::OkStatus();
  // (The step before is done: nothing on the device reads what goes.)
  const uint64_t room = bytes + bytes / 2;
  DESCANT_ASSIGN_OR_RETURN(memory->host, device_->AllocateHost(room));
  DESCANT_ASSIGN_OR_RETURN(memory->device, device_->Allocate(room));
  return absl::OkStatus();
}

CudaStepSampling::Results CudaStepSampling::LayOutResults(
    std::byte* base) const {
  MemoryLayout layout(base, kAlignment);
  Results results;
  results.sampled =
      layout.Take<CudaSampled>(static_cast<int64_t>(outputs_.size()));
  results.accepted =
      layout.Take<CudaAccepted>(static_cast<int64_t>(sequences_.size()));
  results.top = layout.Take<CudaTokenLogprob>(top_count_);
  results.size = layout.size();
  return results;
}

// What all outputs of a sequence have in common, its arrays gathered.
CudaOutput CudaStepSampling::Gather(const Batch& batch,
                                    const BatchSequence& sequence) {
  const SamplingParams& params = *sequence.sampling;
  CudaOutput to;
  to.seed = params.seed;
  to.temperature = params.temperature;
  to.top_k = params.top_k;
  to.top_p = params.top_p;
  to.min_p = params.min_p;
  to.typical_p = params.typical_p;
  to.repetition_penalty = params.repetition_penalty;
  to.presence_penalty = params.presence_penalty;
  to.frequency_penalty = params.frequency_penalty;
  to.choice = params.choice + sequence.choice;
  to.prompt_length = sequence.prompt_length;
  to.bias_begin = static_cast<int32_t>(biases_.size());
  for (const LogitBias& bias : params.logit_bias) {
    biases_.push_back({bias.token, bias.bias});
  }
  to.bias_end = static_cast<int32_t>(biases_.size());
  to.banned_begin = static_cast<int32_t>(banned_.size());
  if (sequence.banned != nullptr) {
    Append(absl::MakeConstSpan(*sequence.banned), &banned_);
  }
  to.banned_end = static_cast<int32_t>(banned_.size());
  if (sequence.token_mask != nullptr) {
    to.token_mask = static_cast<int64_t>(masks_.size());
    Append(absl::MakeConstSpan(sequence.token_mask, (vocab_size_ + 31) / 32),
           &masks_);
  }
  const int32_t sampling_rows =
      sequence.output_end - sequence.output_begin - sequence.prompt_outputs;
  if (PenalisesTokens(to) && sampling_rows > 0) {
    // All before the first row that samples.
    to.history = static_cast<int64_t>(histories_.size());
    to.history_length =
        batch.positions[sequence.row_end - 1] - (sampling_rows - 1);
    Append(absl::MakeConstSpan(sequence.history, to.history_length),
           &histories_);
  }
  return to;
}

void CudaStepSampling::Fill(const Batch& batch, const StepOutput& output) {
  outputs_.clear();
  sequences_.clear();
  histories_.clear();
  biases_.clear();
  banned_.clear();
  masks_.clear();
  top_count_ = static_cast<int32_t>(output.top.size());
  int32_t workspace_rows = 0;
  for (const BatchSequence& sequence : batch.sequences) {
    sequences_.push_back({sequence.output_begin, sequence.output_end,
                          sequence.prompt_outputs, sequence.row_end,
                          sequence.state_slot});
    if (sequence.output_begin == sequence.output_end) continue;
    const CudaOutput common = Gather(batch, sequence);
    const int32_t first = sequence.output_begin + sequence.prompt_outputs;
    for (int32_t i = sequence.output_begin; i < sequence.output_end; ++i) {
      CudaOutput& to = outputs_.emplace_back(common);
      const int32_t row = batch.output_rows[i];
      to.position = batch.positions[row];
      to.top_begin = output.sampled[i].top_begin;
      if (i < first) {
        to.kind = CudaOutputKind::kScore;
        to.token = sequence.history[to.position + 1];
        to.top_logprobs = sequence.sampling->prompt_logprobs;
        continue;
      }
      to.kind = CudaOutputKind::kSample;
      to.top_logprobs = sequence.sampling->top_logprobs;
      // The rows from the first one that samples up to this one.
      const int32_t before = i - first;
      to.tail = row - before;
      to.tail_length = before + 1;
      if (sequence.generated + before >= sequence.sampling->min_tokens) {
        to.banned_end = to.banned_begin;
      }
      if (AdjustsLogits(to)) to.workspace_row = workspace_rows++;
    }
  }
}

absl::Status CudaStepSampling::Enqueue(const Batch& batch,
                                       const StepOutput& output,
                                       const float* logits, int64_t stride,
                                       const int32_t* tokens) {
  if (AsksForTooMany(batch)) {
    return absl::UnimplementedError(absl::StrCat(
        "more than ", kernels::kMaxSampleTop, " log-probabilities"));
  }
  Fill(batch, output);
  kernels::SampleArgs sample;
  kernels::AcceptArgs accept;
  const auto lay_out = [&](std::byte* host, std::byte* device) {
    MemoryLayout on_host(host, kAlignment);
    MemoryLayout on_device(device, kAlignment);
    sample.params = Put(outputs_, &on_host, &on_device);
    accept.sequences = Put(sequences_, &on_host, &on_device);
    sample.histories = Put(histories_, &on_host, &on_device);
    sample.biases = Put(biases_, &on_host, &on_device);
    sample.banned = Put(banned_, &on_host, &on_device);
    sample.token_masks = Put(masks_, &on_host, &on_device);
    return on_host.size();
  };
  const uint64_t bytes = lay_out(nullptr, nullptr);
  DESCANT_RETURN_IF_ERROR(Reserve(bytes, &inputs_));
  lay_out(inputs_.host.data(), inputs_.device.data());
  DESCANT_RETURN_IF_ERROR(
      device_->CopyToDevice(inputs_.device.data(), inputs_.host.data(), bytes));
  const uint64_t result_bytes = LayOutResults(nullptr).size;
  DESCANT_RETURN_IF_ERROR(Reserve(result_bytes, &results_));
  const Results results = LayOutResults(results_.device.data());
  sample.logits = logits;
  sample.logits_stride = stride;
  sample.outputs = batch.outputs();
  sample.vocab = vocab_size_;
  sample.tokens = tokens;
  sample.last_tokens = last_tokens();
  sample.workspace = workspace_.data<float>();
  sample.workspace_stride = workspace_stride_;
  sample.results = results.sampled;
  sample.top = results.top;
  sample.stream = device_->stream();
  DESCANT_RETURN_IF_ERROR(device_->Launch(device_->kernels().sample, sample));
  accept.count = static_cast<int32_t>(sequences_.size());
  accept.results = results.sampled;
  accept.tokens = tokens;
  accept.last_tokens = last_tokens_.data<int32_t>();
  accept.accepted = results.accepted;
  accept.stream = device_->stream();
  DESCANT_RETURN_IF_ERROR(
      device_->Launch(device_->kernels().accept_drafts, accept));
  return device_->CopyToHost(results_.host.data(), results_.device.data(),
                             result_bytes);
}

void CudaStepSampling::Collect(StepOutput* output) const {
  const Results results = LayOutResults(results_.host.data());
  for (size_t i = 0; i < outputs_.size(); ++i) {
    output->sampled[i].token = results.sampled[i].token;
    output->sampled[i].logprob = results.sampled[i].logprob;
  }
  for (size_t i = 0; i < sequences_.size(); ++i) {
    output->sequences[i].end = results.accepted[i].output_end;
    output->sequences[i].numeric_fault = results.accepted[i].numeric_fault != 0;
  }
  for (size_t i = 0; i < output->top.size(); ++i) {
    output->top[i] = {results.top[i].token, results.top[i].logprob};
  }
}

}  // namespace descant
