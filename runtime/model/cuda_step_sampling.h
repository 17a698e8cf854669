// From a step's logits to its results, on the device: what sampler.h says, by
// the kernels of cuda_sampling.h. Enqueued behind a step's launches, outside of
// graphs: how many parameters there are differs from step to step.
#ifndef DESCANT_RUNTIME_MODEL_CUDA_STEP_SAMPLING_H_
#define DESCANT_RUNTIME_MODEL_CUDA_STEP_SAMPLING_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/core/batch.h"
#include "runtime/kernels/cuda/cuda_sampling.h"
#include "runtime/model/device.h"

namespace descant {

// Used by the engine thread. The device outlives it.
class CudaStepSampling {
 public:
  // UNIMPLEMENTED: a vocabulary of more than kMaxSampleVocab. Errors of the
  // device.
  static absl::StatusOr<std::unique_ptr<CudaStepSampling>> Create(
      int32_t vocab_size, const BatchLimits& limits, Device* device);

  // int32 [max_sequences], on the device: each state slot's last token, which a
  // token -1 - slot stands for.
  const int32_t* last_tokens() const { return last_tokens_.data<int32_t>(); }

  // `logits`: fp32 [batch.outputs(), stride], and `tokens`: int32 [rows], are
  // on the device; `output` is laid out for the batch. Allocates where a step
  // has more parameters (histories, masks) than any before. UNIMPLEMENTED: more
  // than kMaxSampleTop log-probabilities of an output.
  absl::Status Enqueue(const Batch& batch, const StepOutput& output,
                       const float* logits, int64_t stride,
                       const int32_t* tokens);

  // Fills what Enqueue was for. The device is done.
  void Collect(StepOutput* output) const;

 private:
  // Memory of the device and its twin on the host, whose size is the largest
  // that was needed.
  struct Mirrored {
    DeviceMemory host;
    DeviceMemory device;
  };
  // Where results of the step lie, on either side.
  struct Results {
    kernels::CudaSampled* sampled;
    kernels::CudaAccepted* accepted;
    kernels::CudaTokenLogprob* top;
    uint64_t size;
  };

  CudaStepSampling(int32_t vocab_size, Device* device)
      : vocab_size_(vocab_size), device_(device) {}

  absl::Status Reserve(uint64_t bytes, Mirrored* memory);
  void Fill(const Batch& batch, const StepOutput& output);
  kernels::CudaOutput Gather(const Batch& batch, const BatchSequence& sequence);
  Results LayOutResults(std::byte* base) const;

  const int32_t vocab_size_;
  Device* const device_;
  DeviceMemory last_tokens_;
  DeviceMemory workspace_;  // float [max_outputs, workspace_stride_]
  int64_t workspace_stride_ = 0;
  // Of the step: gathered here, copied at once.
  std::vector<kernels::CudaOutput> outputs_;
  std::vector<kernels::CudaSequenceOutputs> sequences_;
  std::vector<int32_t> histories_;
  std::vector<kernels::CudaLogitBias> biases_;
  std::vector<int32_t> banned_;
  std::vector<uint32_t> masks_;
  int32_t top_count_ = 0;
  Mirrored inputs_;
  Mirrored results_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_MODEL_CUDA_STEP_SAMPLING_H_
