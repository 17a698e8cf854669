// A step of running sequences allocates nothing.
#include <cstdlib>
#include <new>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/core/scheduler.h"
#include "tests/testing/fake_runner.h"

namespace {
// Of this (only) thread.
int64_t allocations = 0;
}  // namespace

void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace descant {
namespace {

// Runs 32 sequences for a while.
void ExpectNoAllocations(int32_t max_draft_tokens) {
  SchedulerOptions options;
  options.max_draft_tokens = max_draft_tokens;
  options.limits.max_rows = 128;
  options.limits.max_sequences = 32;
  options.limits.max_outputs = 96;
  options.limits.max_blocks_per_sequence = 64;
  options.limits.max_slots = 8;
  options.num_blocks = 1024;
  options.max_model_len = 2048;
  options.max_running_sequences = 32;
  Scheduler scheduler(options);
  for (RequestId id = 1; id <= 32; ++id) {
    Request request;
    request.id = id;
    request.prompt.assign(40, 5);
    request.sampling.max_tokens = 900;
    if (id % 2 == 0) {
      request.adapter = MakeFakeAdapter(std::to_string(id % 8));
    }
    scheduler.Add(std::move(request));
  }
  StepOutput output;
  output.sequences.reserve(64);
  output.sampled.reserve(96);
  const auto step = [&] {
    const Batch& batch = scheduler.Schedule(MonotonicTime{});
    for (const int32_t slot : scheduler.slots_to_load()) {
      scheduler.SlotLoaded(slot);
    }
    if (batch.empty()) return;
    output.Clear();
    output.step = batch.step;
    for (const BatchSequence& s : batch.sequences) {
      auto& result = output.sequences.emplace_back();
      result.id = s.id;
      result.begin = static_cast<int32_t>(output.sampled.size());
      bool more = s.output == OutputKind::kTokens;
      for (int32_t o = s.output_begin; more; ++o) {
        output.sampled.emplace_back();
        more = o + 1 < s.output_end && batch.tokens[batch.output_rows[o + 1]] ==
                                           output.sampled.back().token;
      }
      result.end = static_cast<int32_t>(output.sampled.size());
    }
    scheduler.Update(output);
    scheduler.ClearEvents();
  };
  for (int i = 0; i < 30; ++i) step();
  ASSERT_EQ(scheduler.running(), 32);
  const int64_t before = allocations;
  for (int i = 0; i < 200; ++i) step();  // new blocks on the way included
  EXPECT_EQ(allocations - before, 0);
  EXPECT_EQ(scheduler.running(), 32);
  EXPECT_EQ(scheduler.speculation().drafts > 1000, max_draft_tokens > 0);
}

TEST(SchedulerAllocation, DecodingAllocatesNothing) { ExpectNoAllocations(0); }

TEST(SchedulerAllocation, NorDoDrafts) { ExpectNoAllocations(7); }

}  // namespace
}  // namespace descant
