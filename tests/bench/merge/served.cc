#include "tests/bench/merge/served.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/formats/random_adapter.h"
#include "adapters/validate.h"
#include "runtime/base/check.h"
#include "runtime/base/mutex.h"
#include "runtime/tokenizer/tokenizer.h"

namespace descant::bench {
namespace {

constexpr int32_t kMaxLength = 1024;

// Of all requests of a run: who waits for them sleeps here.
struct Gate {
  Mutex mutex;
  CondVar changed;
  int running ABSL_GUARDED_BY(mutex) = 0;
};

class Sink final : public TokenSink {
 public:
  Sink(Gate* gate, Answered* answered) : gate_(gate), answered_(answered) {}
  void OnTokens(int32_t, absl::Span<const TokenEvent> tokens,
                const std::string&) override {
    for (const TokenEvent& token : tokens) {
      answered_->tokens.push_back(token.token);
      answered_->times.push_back(std::chrono::steady_clock::now());
    }
  }
  void OnFinish(const RequestResult& result) override {
    if (!result.status.ok()) {
      std::printf("INVALID: %s\n", result.status.ToString().c_str());
      std::exit(1);
    }
    MutexLock lock(&gate_->mutex);
    --gate_->running;
    gate_->changed.SignalAll();
  }

 private:
  Gate* const gate_;
  Answered* const answered_;
};

}  // namespace

std::shared_ptr<const Adapter> MakeBenchAdapter(const BaseShape& base,
                                                const std::string& name,
                                                int32_t rank, bool all_modules,
                                                uint64_t seed) {
  std::vector<RandomAdapterModule> modules;
  for (const BaseModule& module : base.modules) {
    if (all_modules || module.kind == LinearKind::kQ ||
        module.kind == LinearKind::kV) {
      modules.push_back({module.path, module.in, module.out});
    }
  }
  const AdapterFiles files = MakeRandomAdapter(
      modules, {.rank = rank, .alpha = 2.0 * rank, .seed = seed});
  auto adapter = MakeAdapter("", name, files.config_json,
                             files.safetensors_bytes, base, AdapterLimits());
  DESCANT_CHECK(adapter.ok());
  return *adapter;
}

Served::Served(const LoadedModel& model, bool hot_merge, uint64_t merge_memory)
    : model_(model) {
  RunnerOptions options;
  options.limits.max_rows = 128;
  options.limits.max_sequences = 64;
  options.limits.max_outputs = 128;
  options.limits.max_blocks_per_sequence = kMaxLength / kBlockSize;
  options.limits.max_slots = 8;
  options.adapter_bytes = uint64_t{256} << 20;
  auto runner = CpuRunner::Create(model.model, options);
  DESCANT_CHECK(runner.ok());
  runner_ = runner->get();
  EngineOptions engine;
  engine.max_model_len = kMaxLength;
  engine.prefix_cache = false;
  engine.hot_merge = hot_merge;
  engine.merge_memory = merge_memory;
  auto made =
      Engine::Create(*std::move(runner), model.tokenizer, {}, engine, &clock_);
  DESCANT_CHECK(made.ok());
  engine_ = *std::move(made);
}

Served::~Served() { engine_->Stop(clock_.Now()); }

double Served::Run(const std::vector<Load>& loads, std::mt19937_64* random,
                   std::vector<Answered>* answers) {
  Gate gate;
  std::vector<std::unique_ptr<Answered>> kept;
  const MonotonicTime begin = clock_.Now();
  for (const Load& load : loads) {
    for (int i = 0; i < load.requests; ++i) {
      Request request;
      request.id = ++last_id_;
      for (int t = 0; t < load.prompt; ++t) {
        request.prompt.push_back(static_cast<int32_t>(
            (*random)() % model_.model->config.vocab_size));
      }
      request.sampling.temperature = 0;
      request.sampling.max_tokens = load.output;
      request.sampling.ignore_eos = true;
      request.adapter = load.adapter;
      request.arrival = clock_.Now();
      kept.push_back(std::make_unique<Answered>());
      kept.back()->prompt = request.prompt;
      {
        MutexLock lock(&gate.mutex);
        while (gate.running >= load.in_flight) gate.changed.Wait(&gate.mutex);
        ++gate.running;
      }
      const absl::Status status = engine_->Submit(
          std::move(request), std::make_shared<Sink>(&gate, kept.back().get()));
      DESCANT_CHECK(status.ok());
    }
  }
  {
    MutexLock lock(&gate.mutex);
    while (gate.running > 0) gate.changed.Wait(&gate.mutex);
  }
  const double seconds = ToSeconds(clock_.Now() - begin);
  if (answers != nullptr) {
    for (auto& answered : kept) answers->push_back(std::move(*answered));
  }
  return seconds;
}

void Served::SetMode(MergeMode mode,
                     const std::shared_ptr<const Adapter>& adapter) {
  Gate gate;
  {
    MutexLock lock(&gate.mutex);
    gate.running = 1;
  }
  engine_->SetMergeMode(mode, adapter, [&](const AdapterActionResult& result) {
    DESCANT_CHECK(result.status.ok());
    MutexLock lock(&gate.mutex);
    gate.running = 0;
    gate.changed.SignalAll();
  });
  MutexLock lock(&gate.mutex);
  while (gate.running > 0) gate.changed.Wait(&gate.mutex);
}

MergeReport Served::Merges() {
  Gate gate;
  {
    MutexLock lock(&gate.mutex);
    gate.running = 1;
  }
  MergeReport report;
  engine_->InspectMerges([&](const MergeReport& merges) {
    report = merges;
    MutexLock lock(&gate.mutex);
    gate.running = 0;
    gate.changed.SignalAll();
  });
  MutexLock lock(&gate.mutex);
  while (gate.running > 0) gate.changed.Wait(&gate.mutex);
  return report;
}

namespace {

// Of one answer, fed as a prompt.
class ScoringSink final : public TokenSink {
 public:
  ScoringSink(Gate* gate, size_t prompt, float* widest, int64_t* tokens,
              int64_t* flips)
      : gate_(gate),
        unscored_(prompt - 1),
        widest_(widest),
        tokens_(tokens),
        flips_(flips) {}
  void OnPrompt(absl::Span<const TokenEvent> tokens) override {
    for (const TokenEvent& token : tokens) {
      if (unscored_ > 0) {
        --unscored_;
        continue;
      }
      ++*tokens_;
      const TokenLogprob& best = token.top.front();
      if (best.token == token.token) continue;
      ++*flips_;
      *widest_ = std::max(*widest_, best.logprob - token.logprob);
    }
  }
  void OnTokens(int32_t, absl::Span<const TokenEvent>,
                const std::string&) override {}
  void OnFinish(const RequestResult& result) override {
    DESCANT_CHECK(result.status.ok());
    MutexLock lock(&gate_->mutex);
    --gate_->running;
    gate_->changed.SignalAll();
  }

 private:
  Gate* const gate_;
  size_t unscored_;  // of the prompt, still to come
  float* const widest_;
  int64_t* const tokens_;
  int64_t* const flips_;
};

}  // namespace

float Served::WidestGap(const std::vector<Answered>& answers,
                        const std::shared_ptr<const Adapter>& adapter,
                        int64_t* tokens, int64_t* flips) {
  constexpr int kInFlight = 8;
  Gate gate;
  float widest = 0;
  for (const Answered& answered : answers) {
    Request request;
    request.id = ++last_id_;
    request.prompt = answered.prompt;
    request.prompt.insert(request.prompt.end(), answered.tokens.begin(),
                          answered.tokens.end());
    request.sampling.temperature = 0;
    request.sampling.max_tokens = 1;
    request.sampling.prompt_logprobs = 1;
    request.adapter = adapter;
    request.arrival = clock_.Now();
    {
      MutexLock lock(&gate.mutex);
      while (gate.running >= kInFlight) gate.changed.Wait(&gate.mutex);
      ++gate.running;
    }
    DESCANT_CHECK(
        engine_
            ->Submit(std::move(request),
                     std::make_shared<ScoringSink>(
                         &gate, answered.prompt.size(), &widest, tokens, flips))
            .ok());
  }
  MutexLock lock(&gate.mutex);
  while (gate.running > 0) gate.changed.Wait(&gate.mutex);
  return widest;
}

void Served::WaitForMerge(const std::shared_ptr<const Adapter>& adapter,
                          std::mt19937_64* random) {
  while (true) {
    for (const MergeStatus& status : Merges().adapters) {
      if (!SameKey(status.record.key, KeyOf(*adapter))) continue;
      if (status.record.state == MergeState::kMerged) return;
      if (status.record.state == MergeState::kRefused) {
        std::printf("INVALID: %s\n", status.record.reason.c_str());
        std::exit(1);
      }
    }
    Run({{adapter, 8, 8, 8, 16}}, random);
  }
}

}  // namespace descant::bench
