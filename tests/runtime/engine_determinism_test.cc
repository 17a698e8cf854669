// The promise of determinism, through the real engine and the real CPU
// runner: a random request gives the same tokens and log-probabilities, to the
// bit, alone and among many others. The crowded engine has too few KV blocks,
// too few adapter slots and a small token budget, so that requests are chunked,
// preempted, made to wait for slots, and mixed at random; it has a prefix cache
// and speculation, which the quiet one has not. Requests are those of eight
// tenants, of which neighbours have an adapter of the same content. For each
// model family, instruction set that the machine has, and type of weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/base/mutex.h"
#include "runtime/core/speculation.h"
#include "runtime/engine.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/model/model.h"
#include "tests/runtime/model/golden_cases.h"
#include "tests/testing/fake_clock.h"

namespace descant {
namespace {

using std::chrono::steady_clock;

struct Answer {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::string text;
  FinishReason reason = FinishReason::kNone;

  bool operator==(const Answer&) const = default;
};

struct Answers {
  std::map<int32_t, Answer> choices;
  std::vector<float> prompt;  // log-probabilities
  FinishReason reason = FinishReason::kNone;
  int32_t cached_tokens = 0;
};

class CollectingSink final : public TokenSink {
 public:
  void OnTokens(int32_t choice, absl::Span<const TokenEvent> tokens,
                const std::string& text) override {
    MutexLock lock(&mutex_);
    Answer& answer = answers_.choices[choice];
    for (const TokenEvent& token : tokens) {
      answer.tokens.push_back(token.token);
      answer.logprobs.push_back(token.logprob);
    }
    answer.text += text;
  }
  void OnPrompt(absl::Span<const TokenEvent> tokens) override {
    MutexLock lock(&mutex_);
    for (const TokenEvent& token : tokens) {
      answers_.prompt.push_back(token.logprob);
    }
  }
  void OnChoiceFinish(int32_t choice, const ChoiceResult& result) override {
    MutexLock lock(&mutex_);
    answers_.choices[choice].reason = result.reason;
  }
  void OnFinish(const RequestResult& result) override {
    MutexLock lock(&mutex_);
    answers_.reason = result.reason;
    answers_.cached_tokens = result.cached_tokens;
    finished_.SignalAll();
  }
  Answers Wait(std::chrono::seconds patience = std::chrono::seconds(60)) {
    const auto deadline = steady_clock::now() + patience;
    MutexLock lock(&mutex_);
    while (answers_.reason == FinishReason::kNone &&
           finished_.WaitUntil(&mutex_, deadline)) {
    }
    return answers_;
  }

 private:
  Mutex mutex_;
  CondVar finished_;
  Answers answers_ ABSL_GUARDED_BY(mutex_);
};

struct Family {
  const char* golden;  // tests/golden/data/<golden>.json
  int32_t requests;
};

constexpr Family kFamilies[] = {
    {"tiny_llama", 2000}, {"tiny_gemma2", 300}, {"tiny_gemma3", 200},
    {"tiny_gpt2", 300},   {"tiny_phi3", 200},   {"tiny_mistral", 200},
    {"tiny_qwen2", 200},  {"tiny_qwen3", 200},
};

constexpr int32_t kMaxLength = 8 * kBlockSize;

constexpr int32_t kTenants = 8;
constexpr int32_t kAdaptersOfTenant = 2;

// What computes.
struct Variant {
  const char* name;
  kernels::CpuIsa isa;
  WeightType weights = WeightType::kBf16;
  AdapterWeightType adapters = AdapterWeightType::kBf16;
};

constexpr Variant kVariants[] = {
    {"avx2", kernels::CpuIsa::kAvx2},
    {"avx512", kernels::CpuIsa::kAvx512},
    {"amx", kernels::CpuIsa::kAmx},
    {"avx2_int4", kernels::CpuIsa::kAvx2, WeightType::kInt4},
    {"avx512_int4", kernels::CpuIsa::kAvx512, WeightType::kInt4},
    {"amx_int4", kernels::CpuIsa::kAmx, WeightType::kInt4},
    {"avx2_int8", kernels::CpuIsa::kAvx2, WeightType::kInt8},
    {"avx512_int8", kernels::CpuIsa::kAvx512, WeightType::kInt8},
    {"amx_int8", kernels::CpuIsa::kAmx, WeightType::kInt8},
    {"avx2_adapters_int8", kernels::CpuIsa::kAvx2, WeightType::kBf16,
     AdapterWeightType::kInt8},
    {"avx512_adapters_int8", kernels::CpuIsa::kAvx512, WeightType::kBf16,
     AdapterWeightType::kInt8},
    {"amx_adapters_int8", kernels::CpuIsa::kAmx, WeightType::kBf16,
     AdapterWeightType::kInt8},
};

class EngineDeterminismTest
    : public testing::TestWithParam<std::tuple<Variant, Family>> {
 protected:
  static const Variant& variant() { return std::get<0>(GetParam()); }
  static const Family& family() { return std::get<1>(GetParam()); }

  void SetUp() override {
    if (variant().isa > kernels::DetectCpuIsa()) {
      GTEST_SKIP() << "not run on this machine: "
                   << kernels::CpuIsaName(variant().isa);
    }
    const std::string isa(kernels::CpuIsaName(variant().isa));
    setenv("DESCANT_CPU_ISA", isa.c_str(), /*overwrite=*/1);
    const GoldenFile golden = ReadGolden(family().golden);
    const auto loaded =
        LoadModel(SourcePath("tests/golden/models/" + golden.model));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    loaded_ = *loaded;
    std::vector<std::shared_ptr<const Adapter>> contents;
    for (const GoldenAdapter& adapter : golden.adapters) {
      if (adapter.kind == "base") continue;
      const auto made = MakeGoldenAdapter(adapter, loaded_.model->base_shape);
      ASSERT_TRUE(made.ok()) << made.status();
      contents.push_back(*made);
    }
    adapters_.resize(kTenants);
    for (int32_t tenant = 0; tenant < kTenants; ++tenant) {
      for (int32_t i = 0; i < kAdaptersOfTenant; ++i) {
        Adapter adapter = *contents[(tenant + i) % contents.size()];
        adapter.tenant = TenantName(tenant);
        adapters_[tenant].push_back(
            std::make_shared<const Adapter>(std::move(adapter)));
      }
    }
  }

  static std::string TenantName(int32_t tenant) {
    return absl::StrCat("tenant-", tenant);
  }

  void TearDown() override { unsetenv("DESCANT_CPU_ISA"); }

  // DESCANT_DETERMINISM_REQUESTS is the number for the first family. Without
  // it, sets below the machine's best and other weights get fewer.
  static int32_t Requests() {
    const char* wanted = std::getenv("DESCANT_DETERMINISM_REQUESTS");
    if (wanted == nullptr) {
      const bool main = variant().isa == kernels::DetectCpuIsa() &&
                        variant().weights == WeightType::kBf16 &&
                        variant().adapters == AdapterWeightType::kBf16;
      return main ? family().requests : family().requests / 5;
    }
    return static_cast<int32_t>(int64_t{std::atoi(wanted)} * family().requests /
                                kFamilies[0].requests);
  }

  std::unique_ptr<Engine> MakeEngine(int32_t rows, int32_t sequences,
                                     int32_t slots, int32_t blocks,
                                     bool crowded) {
    const ModelConfig& config = loaded_.model->config;
    RunnerOptions options;
    options.limits = {.max_rows = rows,
                      .max_sequences = sequences,
                      .max_outputs = sequences + (crowded ? 24 : 0),
                      .max_blocks_per_sequence = kMaxLength / kBlockSize,
                      .max_slots = slots};
    options.kv_bytes = static_cast<uint64_t>(blocks) * config.num_layers * 2 *
                       config.num_kv_heads * config.head_dim * kBlockSize * 2;
    options.weights = variant().weights;
    options.adapter_weights = variant().adapters;
    auto runner = MakeCpuRunner(loaded_.model, options);
    EXPECT_TRUE(runner.ok()) << runner.status();
    EngineOptions engine_options;
    engine_options.max_model_len = kMaxLength;
    engine_options.max_running_sequences = sequences;
    engine_options.max_waiting_requests = 1 << 20;
    engine_options.max_waiting_tokens = 1 << 30;
    engine_options.prefix_cache = crowded;
    engine_options.max_draft_tokens = crowded ? kMaxDraftTokens : 0;
    auto engine =
        Engine::Create(*std::move(runner), loaded_.tokenizer,
                       loaded_.model->eos_token_ids, engine_options, &clock_);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }

  Request RandomRequest(RequestId id, std::mt19937_64* random) {
    const auto draw = [random](int32_t low, int32_t high) {
      return std::uniform_int_distribution<int32_t>(low, high)(*random);
    };
    Request request;
    request.id = id;
    const int32_t tenant = draw(0, kTenants - 1);
    request.tenant = TenantName(tenant);
    request.tenant_weight = 1 + tenant % 3;
    request.priority = draw(-1, 1);
    request.prompt.resize(draw(0, 7) == 0 ? draw(60, 180) : draw(1, 40));
    for (int32_t& token : request.prompt) token = draw(3, 511);
    // Many begin alike: the prefix cache has some of them.
    if (draw(0, 1) == 0) {
      const int32_t alike =
          draw(0, static_cast<int32_t>(request.prompt.size()));
      for (int32_t i = 0; i < alike; ++i) request.prompt[i] = 3 + i * 7 % 509;
    }
    // Many go round: there is something to guess.
    const int32_t period = draw(2, 24);
    if (draw(0, 1) == 0) {
      for (size_t i = period; i < request.prompt.size(); ++i) {
        request.prompt[i] = request.prompt[i - period];
      }
    }
    request.bypass_prefix_cache = draw(0, 9) == 0;
    if (draw(0, 4) == 0) request.max_draft_tokens = draw(0, 3);
    // The last one is the base model.
    const int32_t adapter = draw(0, kAdaptersOfTenant);
    if (adapter < kAdaptersOfTenant) {
      request.adapter = adapters_[tenant][adapter];
    }
    SamplingParams& sampling = request.sampling;
    sampling.temperature = draw(0, 1) == 0 ? 0.0f : 0.9f;
    sampling.top_k = draw(0, 1) * 40;
    sampling.top_p = draw(0, 1) == 0 ? 1.0f : 0.9f;
    sampling.seed = (*random)();
    // Some grow by more blocks than are kept for them when they are admitted.
    sampling.max_tokens = draw(0, 2) == 0 ? draw(72, 160) : draw(1, 72);
    sampling.max_tokens =
        std::min(sampling.max_tokens,
                 kMaxLength - static_cast<int32_t>(request.prompt.size()));
    sampling.ignore_eos = draw(0, 1) == 0;
    sampling.top_logprobs = draw(0, 1) * 3;
    if (draw(0, 3) == 0) SetMore(draw, &sampling);
    request.arrival = clock_.Now();
    return request;
  }

  template <typename Draw>
  static void SetMore(const Draw& draw, SamplingParams* sampling) {
    sampling->n = draw(1, 4);
    sampling->max_tokens = draw(1, 40);
    sampling->min_tokens = draw(0, sampling->max_tokens);
    if (draw(0, 1) == 0) sampling->repetition_penalty = 1.3f;
    if (draw(0, 1) == 0) sampling->frequency_penalty = 0.7f;
    if (draw(0, 2) == 0) sampling->presence_penalty = -0.4f;
    if (draw(0, 2) == 0) sampling->typical_p = 0.8f;
    if (draw(0, 2) == 0) sampling->logit_bias = {{draw(3, 511), 3.0f}};
    if (draw(0, 2) == 0) sampling->prompt_logprobs = 0;
  }

  // Each answer to the request as the only answer to one that wants it alone.
  static void ExpectAsAlone(Engine* quiet, const Request& request,
                            const Answers& together) {
    for (int32_t i = 0; i < request.sampling.n; ++i) {
      Request one = request;
      one.sampling.n = 1;
      one.sampling.choice = i;
      auto sink = std::make_shared<CollectingSink>();
      ASSERT_TRUE(quiet->Submit(std::move(one), sink).ok());
      const Answers alone = sink->Wait();
      ASSERT_NE(alone.reason, FinishReason::kNone);
      const Answer& expected = alone.choices.at(0);
      const Answer& actual = together.choices.at(i);
      EXPECT_TRUE(expected == actual)
          << "choice " << i << ": prompt of " << request.prompt.size()
          << ", alone " << expected.tokens.size() << " tokens, together "
          << actual.tokens.size();
      EXPECT_EQ(alone.prompt, together.prompt) << "choice " << i;
    }
  }

  // Some of the requests, each twice in a row: the second time their beginning
  // is known, and nothing else is different.
  static void ExpectAgain(Engine* engine, const std::vector<Request>& requests,
                          const std::vector<Answers>& together) {
    const int32_t count = std::min<int32_t>(15, requests.size());
    int64_t cached = 0;
    for (int32_t i = 0; i < 2 * count; ++i) {
      SCOPED_TRACE(absl::StrCat("request ", i / 2, " again"));
      Request again = requests[i / 2];
      again.id = static_cast<RequestId>(requests.size() + i + 1);
      auto sink = std::make_shared<CollectingSink>();
      ASSERT_TRUE(engine->Submit(std::move(again), sink).ok());
      const Answers answers = sink->Wait();
      EXPECT_TRUE(answers.choices == together[i / 2].choices);
      EXPECT_EQ(answers.prompt, together[i / 2].prompt);
      if (i % 2 == 1) cached += answers.cached_tokens;
    }
    EXPECT_GT(cached, 0);
  }

  // Steps take no time by it: drafts are tried where a clock might say that
  // they don't pay.
  FakeClock clock_;
  LoadedModel loaded_;
  std::vector<std::vector<std::shared_ptr<const Adapter>>> adapters_;
};

TEST_P(EngineDeterminismTest, AloneAndInACrowdGiveTheSameBits) {
  const int32_t count = Requests();
  constexpr uint64_t kSeed = 20261123;
  std::mt19937_64 random(kSeed);
  std::vector<Request> requests;
  for (int32_t i = 0; i < count; ++i) {
    requests.push_back(RandomRequest(i + 1, &random));
  }

  auto crowded = MakeEngine(/*rows=*/48, /*sequences=*/24, /*slots=*/6,
                            /*blocks=*/12, /*crowded=*/true);
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const Request& request : requests) {
    sinks.push_back(std::make_shared<CollectingSink>());
    ASSERT_TRUE(crowded->Submit(request, sinks.back()).ok());
  }
  std::vector<Answers> together;
  for (const auto& sink : sinks) {
    together.push_back(sink->Wait(std::chrono::seconds(60 + count / 4)));
    ASSERT_NE(together.back().reason, FinishReason::kNone);
  }
  const EngineStats stats = crowded->Stats();
  ExpectAgain(crowded.get(), requests, together);
  crowded->Stop(kNoDeadline);
  // Few requests may be done before their adapters' loads let them crowd.
  if (count >= 100) {
    EXPECT_GT(stats.preemptions, 0u)
        << "not crowded enough with " << stats.blocks_total << " blocks";
  }
  EXPECT_GT(stats.adapter_evictions, 0u);
  EXPECT_GT(stats.accepted_draft_tokens, 0u);
  EXPECT_GT(stats.draft_tokens, stats.accepted_draft_tokens);

  auto quiet = MakeEngine(/*rows=*/256, /*sequences=*/1, /*slots=*/1,
                          /*blocks=*/64, /*crowded=*/false);
  for (int32_t i = 0; i < count; ++i) {
    SCOPED_TRACE(absl::StrCat("request ", i, " of seed ", kSeed));
    ExpectAsAlone(quiet.get(), requests[i], together[i]);
  }
  quiet->Stop(kNoDeadline);
}

INSTANTIATE_TEST_SUITE_P(All, EngineDeterminismTest,
                         testing::Combine(testing::ValuesIn(kVariants),
                                          testing::ValuesIn(kFamilies)),
                         [](const auto& info) {
                           return absl::StrCat(std::get<0>(info.param).name,
                                               "_",
                                               std::get<1>(info.param).golden);
                         });

}  // namespace
}  // namespace descant
