// Schedule + Update of one step.
//   Decode/N: N sequences decode, 32 adapters, tables of about 10 blocks.
//   Mixed/N:  as Decode, with a prefill chunk that fills the token budget.
//   Skips/N:  64 decode while N requests wait whose adapters get no slot.
#include <string>
#include <utility>

#include "benchmark/benchmark.h"
#include "runtime/core/scheduler.h"
#include "tests/testing/fake_runner.h"

namespace descant {
namespace {

class Load {
 public:
  explicit Load(int32_t sequences) : scheduler_(Options()) {
    for (int i = 0; i < 32; ++i) {
      adapters_.push_back(MakeFakeAdapter("adapter" + std::to_string(i)));
    }
    for (int i = 0; i < sequences; ++i) Add(300, 1 << 20, adapters_[i % 32]);
    while (scheduler_.running() < sequences || prefilling_) Step();
  }

  void Add(int32_t prompt, int32_t max_tokens,
           std::shared_ptr<const Adapter> adapter) {
    Request request;
    request.id = ++last_id_;
    request.prompt.assign(prompt, 5);
    request.sampling.max_tokens = max_tokens;
    request.adapter = std::move(adapter);
    scheduler_.Add(std::move(request));
  }

  void Step() {
    const Batch& batch = scheduler_.Schedule(MonotonicTime{});
    for (const int32_t slot : scheduler_.slots_to_load()) {
      scheduler_.SlotLoaded(slot);
    }
    prefilling_ = false;
    if (batch.empty()) return;
    output_.Clear();
    output_.step = batch.step;
    for (const BatchSequence& s : batch.sequences) {
      auto& result = output_.sequences.emplace_back();
      result.id = s.id;
      result.begin = static_cast<int32_t>(output_.sampled.size());
      if (s.output == OutputKind::kTokens) {
        output_.sampled.emplace_back();
      } else {
        prefilling_ = true;
      }
      result.end = static_cast<int32_t>(output_.sampled.size());
    }
    scheduler_.Update(output_);
    scheduler_.ClearEvents();
  }

 private:
  static SchedulerOptions Options() {
    SchedulerOptions options;
    options.limits.max_rows = 256;
    options.limits.max_sequences = 65;
    options.limits.max_outputs = 65;
    options.limits.max_blocks_per_sequence = 1 << 16;
    options.limits.max_slots = 32;
    options.num_blocks = 1 << 20;
    options.max_model_len = 1 << 21;
    options.max_running_sequences = 65;
    return options;
  }

  Scheduler scheduler_;
  std::vector<std::shared_ptr<const Adapter>> adapters_;
  StepOutput output_;
  RequestId last_id_ = 0;
  bool prefilling_ = false;
};

// Few enough iterations that the sequences stay short.
constexpr int kIterations = 1000;

void Decode(benchmark::State& state) {
  Load load(static_cast<int32_t>(state.range(0)));
  for (auto _ : state) load.Step();
}
BENCHMARK(Decode)->Arg(1)->Arg(8)->Arg(32)->Arg(64)->Iterations(kIterations);

void Mixed(benchmark::State& state) {
  Load load(static_cast<int32_t>(state.range(0)));
  load.Add(1 << 20, 16, nullptr);
  for (auto _ : state) load.Step();
}
BENCHMARK(Mixed)->Arg(32)->Arg(64)->Iterations(kIterations);

void Skips(benchmark::State& state) {
  Load load(64);
  for (int i = 0; i < state.range(0); ++i) {
    load.Add(100, 16, MakeFakeAdapter("cold" + std::to_string(i)));
  }
  for (auto _ : state) load.Step();
}
BENCHMARK(Skips)->Arg(16)->Arg(1024)->Iterations(kIterations);

}  // namespace
}  // namespace descant
