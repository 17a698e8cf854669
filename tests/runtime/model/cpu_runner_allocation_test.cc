// A step allocates nothing: not the first of its kind either, on no thread.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "runtime/core/scheduler.h"
#include "tests/runtime/model/cpu_runner_fixture.h"

namespace {
// Of all threads.
std::atomic<int64_t> allocations{0};

void* Allocate(size_t size, size_t alignment) {
  ++allocations;
  const size_t rounded = (size + alignment - 1) / alignment * alignment;
  void* memory = alignment <= sizeof(std::max_align_t)
                     ? std::malloc(size)
                     : std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) std::abort();
  return memory;
}
}  // namespace

void* operator new(size_t size) { return Allocate(size, 1); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Allocate(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace descant {
namespace {

using CpuRunnerAllocationTest = CpuRunnerFixture;

// One of each kind of sampling there is, in turn.
SamplingParams SamplingOf(int32_t index) {
  SamplingParams sampling;
  sampling.max_tokens = 20;
  sampling.ignore_eos = true;
  sampling.seed = index;
  switch (index % 6) {
    case 0:
      sampling.temperature = 0;
      break;
    case 1:
      sampling.temperature = 0.7f;
      break;
    case 2:
      sampling.top_k = 10;
      sampling.top_p = 0.9f;
      break;
    case 3:
      sampling.min_p = 0.05f;
      sampling.typical_p = 0.9f;
      sampling.top_logprobs = 20;
      break;
    case 4:
      sampling.repetition_penalty = 1.2f;
      sampling.presence_penalty = 0.5f;
      sampling.frequency_penalty = 0.5f;
      break;
    default:
      sampling.temperature = 0;
      sampling.logit_bias = {{3, 1.0f}, {5, -1.0f}};
      sampling.prompt_logprobs = 5;
      sampling.min_tokens = 4;
      sampling.stop_token_ids = {7};
  }
  return sampling;
}

TEST_F(CpuRunnerAllocationTest, AStepAllocatesNothing) {
  Load("tiny_llama");
  constexpr int32_t kRequests = 12;
  const auto runner = MakeRunner(kRequests, 128, 2);
  ASSERT_NE(runner, nullptr);
  SchedulerOptions options;
  options.limits = runner->limits();
  options.num_blocks = runner->num_blocks();
  options.max_model_len = 128;
  options.max_running_sequences = kRequests;
  Scheduler scheduler(options);
  for (int32_t i = 0; i < kRequests; ++i) {
    Request request;
    request.id = i + 1;
    request.prompt.assign(5 + 7 * i, 3 + i);
    request.sampling = SamplingOf(i);
    if (i % 3 != 0) {
      request.adapter = adapters_[i % static_cast<int32_t>(adapters_.size())];
    }
    scheduler.Add(std::move(request));
  }
  int64_t steps = 0;
  int64_t adapters = 0;
  while (!scheduler.idle()) {
    const Batch& batch = scheduler.Schedule(MonotonicTime{});
    for (const int32_t slot : scheduler.slots_to_load()) {
      ASSERT_TRUE(
          runner->LoadAdapter(slot, scheduler.slots().adapter(slot)).ok());
      scheduler.SlotLoaded(slot);
    }
    if (batch.empty()) continue;
    ++steps;
    adapters += static_cast<int64_t>(batch.segments.size());
    const int64_t before = allocations.load();
    ASSERT_TRUE(runner->Launch(batch).ok());
    const auto output = runner->Collect();
    EXPECT_EQ(allocations.load() - before, 0) << "step " << batch.step;
    ASSERT_TRUE(output.ok());
    scheduler.Update(**output);
    scheduler.ClearEvents();
  }
  EXPECT_GT(steps, 20);
  EXPECT_GT(adapters, 20);
}

}  // namespace
}  // namespace descant
