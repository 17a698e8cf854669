// A step's outputs sampled by the device's kernels, emulated, beside the CPU's
// sampler on the same logits: whole batches of random parameters.
#include "runtime/model/cuda_step_sampling.h"

#include <gtest/gtest.h>

#include <deque>
#include <limits>
#include <random>
#include <vector>

#include "runtime/model/sampler.h"
#include "tests/runtime/model/host_device.h"

namespace descant {
namespace {

constexpr int32_t kVocab = 70;
constexpr int64_t kStride = 72;
constexpr int32_t kSlots = 12;

BatchLimits Limits() {
  BatchLimits limits;
  limits.max_rows = 200;
  limits.max_sequences = kSlots;
  limits.max_outputs = 60;
  limits.max_blocks_per_sequence = 8;
  return limits;
}

class CudaStepSamplingTest : public testing::Test {
 protected:
  CudaStepSamplingTest() : device_(MakeHostDevice(kernels::HalfType::kBf16)) {
    auto sampling = CudaStepSampling::Create(kVocab, Limits(), device_.get());
    EXPECT_TRUE(sampling.ok()) << sampling.status();
    sampling_ = *std::move(sampling);
  }

  int32_t Below(int32_t count) {
    return static_cast<int32_t>(random_() % static_cast<uint32_t>(count));
  }
  float Unit() { return std::uniform_real_distribution<float>(0, 1)(random_); }

  SamplingParams RandomParams() {
    SamplingParams params;
    params.temperature = Below(3) == 0 ? 0 : 0.5f + Unit();
    if (Below(2) == 0) params.top_k = 1 + Below(20);
    if (Below(2) == 0) params.top_p = 0.3f + 0.7f * Unit();
    if (Below(3) == 0) params.min_p = 0.2f * Unit();
    if (Below(3) == 0) params.typical_p = 0.3f + 0.7f * Unit();
    if (Below(2) == 0) params.repetition_penalty = 0.5f + Unit();
    if (Below(3) == 0) params.presence_penalty = Unit();
    if (Below(3) == 0) params.frequency_penalty = Unit();
    for (int32_t i = Below(4) * Below(2); i > 0; --i) {
      params.logit_bias.push_back({i * 9 + Below(9), 10 * Unit() - 5});
    }
    params.seed = random_();
    params.choice = Below(3);
    params.min_tokens = Below(4);
    params.top_logprobs = Below(2) == 0 ? -1 : Below(21);
    params.prompt_logprobs = Below(3) == 0 ? Below(21) : -1;
    return params;
  }

  // One sequence: a chunk of its prompt, or its last token and drafts.
  void Add(int32_t state_slot) {
    BatchSequence to;
    to.state_slot = state_slot;
    to.choice = Below(2);
    to.generated = Below(5);
    params_.push_back(RandomParams());
    to.sampling = &params_.back();
    to.row_begin = batch_.rows();
    to.prompt_length = 3 + Below(20);
    const int32_t drafts = to.generated > 0 ? Below(4) : 0;
    const int32_t begin =
        to.generated > 0 ? to.prompt_length + to.generated - 1 : 0;
    const int32_t known =
        to.generated > 0 ? begin + 1 : to.prompt_length - Below(2);
    std::vector<int32_t>& history = histories_.emplace_back();
    for (int32_t i = 0; i < known + drafts + 1; ++i) {
      history.push_back(Below(kVocab));
    }
    for (int32_t i = begin; i < known; ++i) Row(history[i], i);
    // (Guesses are of a step whose tokens are known.)
    if (to.generated > 0 && drafts == 0 && Below(2) == 0) {
      batch_.tokens.back() = kTokenFromLastStep;
    }
    for (int32_t i = 0; i < drafts; ++i) Row(Below(2), known + i);
    to.history = history.data();
    to.row_end = batch_.rows();
    to.output_begin = batch_.outputs();
    const bool samples = known >= to.prompt_length;
    to.prompt_outputs = to.sampling->prompt_logprobs >= 0 && begin == 0
                            ? std::min(known, to.prompt_length - 1)
                            : 0;
    const int32_t outputs = to.prompt_outputs + (samples ? 1 + drafts : 0);
    for (int32_t i = outputs; i > 0; --i) {
      batch_.output_rows.push_back(to.row_end - i);
    }
    to.output_end = batch_.outputs();
    if (Below(2) == 0) to.banned = &banned_;
    if (Below(3) == 0) to.token_mask = mask_.data();
    batch_.sequences.push_back(to);
  }
  void Row(int32_t token, int32_t position) {
    batch_.tokens.push_back(token);
    batch_.positions.push_back(position);
  }

  void RandomBatch() {
    batch_.Clear();
    params_.clear();
    histories_.clear();
    for (uint32_t& word : mask_) word = random_() | 0xf0u;
    for (int32_t slot = 0; slot < kSlots; ++slot) {
      if (Below(4) > 0 && batch_.rows() < 150 && batch_.outputs() < 24) {
        Add(slot);
      }
    }
    logits_.assign(static_cast<size_t>(batch_.outputs() * kStride), 0);
    for (float& logit : logits_) logit = 6 * Unit() - 3;
    // What drafts guess is likely.
    for (int32_t i = 0; i < batch_.outputs(); ++i) {
      for (int32_t token = 0; token < 2; ++token) {
        logits_[i * kStride + token] += 3;
      }
    }
    if (batch_.outputs() > 0 && Below(2) == 0) {
      logits_[Below(batch_.outputs()) * kStride + Below(kVocab)] =
          std::numeric_limits<float>::quiet_NaN();
    }
  }

  StepOutput OnCpu() {
    StepOutput output;
    LayOutStepOutput(batch_, kVocab, &output);
    SamplerScratch scratch(kVocab);
    for (size_t i = 0; i < batch_.sequences.size(); ++i) {
      const BatchSequence& sequence = batch_.sequences[i];
      for (int32_t j = sequence.output_begin; j < sequence.output_end; ++j) {
        int32_t token = batch_.tokens[batch_.output_rows[j]];
        if (token == kTokenFromLastStep) {
          token = last_tokens_[sequence.state_slot];
        }
        if (!SampleOutput(batch_, static_cast<int32_t>(i), j, token,
                          {logits_.data() + j * kStride, kVocab}, &scratch,
                          &output)) {
          break;
        }
      }
    }
    RememberLastTokens(output, &last_tokens_);
    return output;
  }

  StepOutput OnDevice() {
    std::vector<int32_t> tokens = batch_.tokens;
    for (const BatchSequence& sequence : batch_.sequences) {
      for (int32_t row = sequence.row_begin; row < sequence.row_end; ++row) {
        if (tokens[row] == kTokenFromLastStep) {
          tokens[row] = -1 - sequence.state_slot;
        }
      }
    }
    StepOutput output;
    LayOutStepOutput(batch_, kVocab, &output);
    const DeviceMemory logits = ToDevice(logits_);
    const DeviceMemory device_tokens = ToDevice(tokens);
    EXPECT_TRUE(sampling_
                    ->Enqueue(batch_, output, logits.data<float>(), kStride,
                              device_tokens.data<int32_t>())
                    .ok());
    EXPECT_TRUE(device_->Synchronize().ok());
    sampling_->Collect(&output);
    return output;
  }

  template <typename T>
  DeviceMemory ToDevice(const std::vector<T>& values) {
    auto memory = device_->Allocate(values.size() * sizeof(T));
    EXPECT_TRUE(memory.ok()) << memory.status();
    EXPECT_TRUE(
        device_->CopyToDevice(memory->data(), values.data(), memory->size())
            .ok());
    return *std::move(memory);
  }
  std::vector<int32_t> LastTokensOnDevice() {
    std::vector<int32_t> tokens(kSlots);
    EXPECT_TRUE(device_
                    ->CopyToHost(tokens.data(), sampling_->last_tokens(),
                                 kSlots * sizeof(int32_t))
                    .ok());
    EXPECT_TRUE(device_->Synchronize().ok());
    return tokens;
  }

  std::mt19937 random_{20261127};
  const std::unique_ptr<Device> device_;
  std::unique_ptr<CudaStepSampling> sampling_;
  Batch batch_;
  std::deque<SamplingParams> params_;
  std::deque<std::vector<int32_t>> histories_;
  std::vector<float> logits_;
  std::vector<uint32_t> mask_ = std::vector<uint32_t>((kVocab + 31) / 32);
  const std::vector<int32_t> banned_ = {3, 40, 69};
  std::vector<int32_t> last_tokens_ = std::vector<int32_t>(kSlots);
};

TEST_F(CudaStepSamplingTest, RandomBatchesAreLikeOnTheCpu) {
  int32_t drafts_accepted = 0;
  int32_t faults = 0;
  for (int32_t step = 0; step < 24; ++step) {
    SCOPED_TRACE(step);
    RandomBatch();
    const StepOutput expected = OnCpu();
    const StepOutput actual = OnDevice();
    ASSERT_EQ(expected.sequences.size(), actual.sequences.size());
    for (size_t i = 0; i < expected.sequences.size(); ++i) {
      SCOPED_TRACE(i);
      const StepOutput::PerSequence& want = expected.sequences[i];
      const StepOutput::PerSequence& have = actual.sequences[i];
      EXPECT_EQ(want.numeric_fault, have.numeric_fault);
      ASSERT_EQ(want.end, have.end);
      faults += want.numeric_fault ? 1 : 0;
      drafts_accepted += std::max(
          want.end - want.begin - batch_.sequences[i].prompt_outputs - 1, 0);
      for (int32_t j = want.begin; j < want.end; ++j) {
        EXPECT_EQ(expected.sampled[j].token, actual.sampled[j].token);
        EXPECT_NEAR(expected.sampled[j].logprob, actual.sampled[j].logprob,
                    1e-5);
        for (int32_t t = expected.sampled[j].top_begin;
             t < expected.sampled[j].top_end; ++t) {
          EXPECT_EQ(expected.top[t].token, actual.top[t].token);
          EXPECT_NEAR(expected.top[t].logprob, actual.top[t].logprob, 1e-5);
        }
      }
    }
    EXPECT_EQ(last_tokens_, LastTokensOnDevice());
  }
  EXPECT_GT(drafts_accepted, 5);
  EXPECT_GT(faults, 2);
}

TEST_F(CudaStepSamplingTest, WhatTheKernelsHaveNoRoomForIsRefused) {
  EXPECT_EQ(CudaStepSampling::Create(kernels::kMaxSampleVocab + 1, Limits(),
                                     device_.get())
                .status()
                .code(),
            absl::StatusCode::kUnimplemented);
  while (batch_.outputs() == 0) RandomBatch();
  for (SamplingParams& params : params_) params.top_logprobs = 21;
  StepOutput output;
  LayOutStepOutput(batch_, kVocab, &output);
  EXPECT_EQ(sampling_
                ->Enqueue(batch_, output, logits_.data(), kStride,
                          batch_.tokens.data())
                .code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace descant
