#include "runtime/core/batch_slice.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/core/scheduler.h"
#include "tests/testing/fake_runner.h"

namespace descant {
namespace {

// Everything a runner gave, to compare.
std::string Render(const StepOutput& output) {
  std::string text = absl::StrCat(output.step, ":");
  for (const auto& s : output.sequences) {
    absl::StrAppend(&text, " ", s.id, "/", s.state_slot, "[", s.begin, ",",
                    s.end, ")");
    for (int32_t i = s.begin; i < s.end; ++i) {
      const SampledToken& token = output.sampled[i];
      absl::StrAppend(&text, " ", token.token, "(", token.logprob);
      for (int32_t t = token.top_begin; t < token.top_end; ++t) {
        absl::StrAppend(&text, ",", output.top[t].token);
      }
      absl::StrAppend(&text, ")");
    }
  }
  return text;
}

// One runner computes whole steps, the other one the same steps in pieces.
TEST(BatchSlice, PiecesGiveWhatTheWholeGives) {
  constexpr uint32_t kSeed = 20261126;
  std::printf("seed %u\n", kSeed);
  std::mt19937 rng(kSeed);
  FakeRunnerOptions options;
  options.limits = {64, 8, 40, 12, 4};
  options.num_blocks = 96;
  FakeRunner whole(options);
  FakeRunner pieces(options);
  SchedulerOptions scheduling;
  scheduling.limits = options.limits;
  scheduling.num_blocks = options.num_blocks;
  scheduling.max_model_len = 300;
  scheduling.max_running_sequences = 8;
  Scheduler scheduler(scheduling);
  std::vector<std::shared_ptr<const Adapter>> adapters = {nullptr};
  for (int i = 0; i < 3; ++i) {
    adapters.push_back(MakeFakeAdapter(absl::StrCat("a", i)));
  }
  for (RequestId id = 1; id <= 40; ++id) {
    Request request;
    request.id = id;
    const int length = 1 + static_cast<int>(rng() % 90);
    for (int i = 0; i < length; ++i) {
      request.prompt.push_back(static_cast<int32_t>(rng() % 60));
    }
    request.adapter = adapters[rng() % adapters.size()];
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = 1 + static_cast<int32_t>(rng() % 40);
    request.sampling.top_logprobs = static_cast<int32_t>(rng() % 3);
    if (rng() % 3 == 0) request.sampling.prompt_logprobs = 1;
    if (rng() % 4 == 0) request.sampling.n = 2;
    scheduler.Add(std::move(request));
  }
  int steps = 0;
  for (; !scheduler.idle() && steps < 5000; ++steps) {
    const Batch& batch = scheduler.Schedule(MonotonicTime{});
    for (const int32_t slot : scheduler.slots_to_load()) {
      const auto& adapter = scheduler.slots().adapter(slot);
      ASSERT_TRUE(whole.LoadAdapter(slot, adapter).ok());
      ASSERT_TRUE(pieces.LoadAdapter(slot, adapter).ok());
      scheduler.SlotLoaded(slot);
    }
    if (batch.empty()) continue;
    ASSERT_TRUE(whole.Launch(batch).ok());
    const StepOutput& expected = **whole.Collect();
    StepOutput together;
    together.step = batch.step;
    const auto count = static_cast<int32_t>(batch.sequences.size());
    Batch slice;
    for (int32_t begin = 0; begin < count;) {
      const int32_t end =
          begin + 1 + static_cast<int32_t>(rng() % (count - begin));
      SliceBatch(batch, begin, end, &slice);
      ASSERT_TRUE(pieces.Launch(slice).ok());
      AppendOutput(**pieces.Collect(), &together);
      begin = end;
    }
    ASSERT_EQ(Render(together), Render(expected));
    scheduler.Update(expected);
    scheduler.ClearEvents();
  }
  EXPECT_TRUE(scheduler.idle());
  EXPECT_GT(steps, 20);
  EXPECT_THAT(whole.violations(), testing::IsEmpty());
  EXPECT_THAT(pieces.violations(), testing::IsEmpty());
}

}  // namespace
}  // namespace descant
