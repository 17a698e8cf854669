// Penalties, biases, bans and filters against Transformers' own processors and
// warpers (tests/golden/make_sampling.py): on random logits and histories, and
// in whole greedy answers of the tiny Llama through the engine.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/base/mutex.h"
#include "runtime/engine.h"
#include "runtime/model/model.h"
#include "runtime/model/sampler.h"
#include "tests/runtime/model/golden_cases.h"

namespace descant {
namespace {

using nlohmann::json;

const json& Golden() {
  static const json* const golden = [] {
    std::ifstream file(SourcePath("tests/golden/data/sampling.json"));
    return new json(json::parse(file));
  }();
  return *golden;
}

// Steele, Lea, Flood 2014; as in make_sampling.py.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  uint64_t state_;
};

void ApplyOptions(const json& options, SamplingParams* params) {
  params->temperature = options.value("temperature", 1.0f);
  params->top_k = options.value("top_k", 0);
  params->top_p = options.value("top_p", 1.0f);
  params->min_p = options.value("min_p", 0.0f);
  params->typical_p = options.value("typical_p", 1.0f);
  params->repetition_penalty = options.value("repetition_penalty", 1.0f);
  params->presence_penalty = options.value("presence_penalty", 0.0f);
  params->frequency_penalty = options.value("frequency_penalty", 0.0f);
  params->min_tokens = options.value("min_tokens", 0);
  params->stop_token_ids =
      options.value("stop_token_ids", std::vector<int32_t>());
  for (const json& entry : options.value("logit_bias", json::array())) {
    const float bias = entry[1].is_string()
                           ? -std::numeric_limits<float>::infinity()
                           : entry[1].get<float>();
    params->logit_bias.push_back({entry[0].get<int32_t>(), bias});
  }
}

struct Inputs {
  std::vector<float> logits;
  std::vector<int32_t> history;
  SamplingParams params;
  int32_t prompt = 0;
  int32_t answer = 0;
};

Inputs MakeInputs(const json& test) {
  const int32_t vocab = Golden()["vocab"];
  Inputs inputs;
  SplitMix64 random(test["seed"].get<uint64_t>());
  inputs.prompt = static_cast<int32_t>(random.Next() % 30 + 1);
  inputs.answer = static_cast<int32_t>(random.Next() % 60);
  for (int32_t i = 0; i < vocab; ++i) {
    uint64_t sum = 0;
    for (int j = 0; j < 4; ++j) sum += random.Next() >> 44;
    inputs.logits.push_back((static_cast<float>(sum) * 0x1p-20f - 2.0f) *
                            test["scale"].get<float>());
  }
  for (int32_t i = 0; i < inputs.prompt + inputs.answer; ++i) {
    inputs.history.push_back(static_cast<int32_t>(random.Next() % (vocab / 4)));
  }
  ApplyOptions(test["options"], &inputs.params);
  return inputs;
}

TEST(SamplingGolden, EveryDistributionIsThatOfTransformers) {
  const std::vector<int32_t> eos = Golden()["eos"];
  ASSERT_GE(Golden()["cases"].size(), 50u);
  for (const json& test : Golden()["cases"]) {
    SCOPED_TRACE(test["options"].dump());
    Inputs inputs = MakeInputs(test);
    ASSERT_EQ(inputs.prompt, test["prompt"]);
    ASSERT_EQ(inputs.answer, test["answer"]);
    SampleInput input;
    input.logits = inputs.logits;
    input.params = &inputs.params;
    input.history =
        absl::MakeConstSpan(inputs.history).first(inputs.history.size() - 1);
    input.last_token = inputs.history.back();
    input.prompt_length = inputs.prompt;
    if (inputs.answer < inputs.params.min_tokens) input.banned = eos;
    SamplerScratch scratch(static_cast<int32_t>(inputs.logits.size()));
    const SampleResult drawn = SampleToken(input, &scratch, {});
    ASSERT_FALSE(drawn.numeric_fault);
    EXPECT_GT(scratch.weights()[drawn.token], 0);

    std::map<int32_t, double> kept;
    for (const json& entry : test["kept"]) kept[entry[0]] = entry[1];
    const double total = std::accumulate(scratch.weights().begin(),
                                         scratch.weights().end(), 0.0);
    for (size_t token = 0; token < inputs.logits.size(); ++token) {
      const double actual = scratch.weights()[token] / total;
      const auto found = kept.find(static_cast<int32_t>(token));
      const double expected = found == kept.end() ? 0 : found->second;
      EXPECT_NEAR(actual, expected, 2e-5 * expected + 2e-9) << token;
    }
    inputs.params.temperature = 0;
    EXPECT_EQ(SampleToken(input, &scratch, {}).token, test["argmax"]);
    // Nothing stays behind for the next call.
    const SamplingParams plain = {.temperature = 0};
    input.params = &plain;
    input.banned = {};
    EXPECT_EQ(SampleToken(input, &scratch, {}).token,
              std::max_element(inputs.logits.begin(), inputs.logits.end()) -
                  inputs.logits.begin());
  }
}

TEST(SamplingGolden, NothingLeftIsAFaultAndExtremesAreNot) {
  std::vector<float> logits = {1, 2, 3, 4};
  SamplerScratch scratch(4);
  SamplingParams params;
  const std::vector<int32_t> all = {0, 1, 2, 3};
  SampleInput input;
  input.logits = logits;
  input.params = &params;
  input.banned = all;
  EXPECT_TRUE(SampleToken(input, &scratch, {}).numeric_fault);
  input.banned = absl::MakeConstSpan(all).first(3);
  const std::vector<int32_t> history = {3, 3, 3};
  input.history = history;
  input.last_token = 3;
  for (const float temperature : {0.0f, 1e-40f, 1.0f, 3e38f}) {
    for (const float penalty : {0.01f, 1.0f, 100.0f}) {
      params.temperature = temperature;
      params.repetition_penalty = penalty;
      params.frequency_penalty = 2;
      params.typical_p = 1e-9f;
      params.top_logprobs = 0;
      const SampleResult result = SampleToken(input, &scratch, {});
      EXPECT_FALSE(result.numeric_fault);
      EXPECT_EQ(result.token, 3);
      EXPECT_NEAR(result.logprob, -0.44019, 1e-4);  // of the plain logits
    }
  }
}

class CollectingSink final : public TokenSink {
 public:
  void OnTokens(int32_t choice, absl::Span<const TokenEvent> events,
                const std::string& text) override {
    for (const TokenEvent& event : events) {
      tokens[choice].push_back(event.token);
    }
  }
  void OnPrompt(absl::Span<const TokenEvent> events) override {
    EXPECT_TRUE(tokens.empty()) << "the prompt comes first";
    for (const TokenEvent& event : events) prompt.push_back(event);
  }
  void OnFinish(const RequestResult& r) override {
    MutexLock lock(&mutex);
    result = r;
    done = true;
    finished.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mutex);
    while (!done) finished.Wait(&mutex);
  }

  std::map<int32_t, std::vector<int32_t>> tokens;
  std::vector<TokenEvent> prompt;
  RequestResult result;
  Mutex mutex;
  CondVar finished;
  bool done = false;
};

class SamplingEngineGolden : public testing::Test {
 protected:
  void SetUp() override {
    const auto loaded = LoadModel(SourcePath("tests/golden/models/tiny-llama"));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    RunnerOptions options;
    options.limits = {.max_rows = 24,
                      .max_sequences = 8,
                      .max_outputs = 13,
                      .max_blocks_per_sequence = 8,
                      .max_slots = 1};
    auto runner = MakeReferenceRunner(loaded->model, options);
    ASSERT_TRUE(runner.ok()) << runner.status();
    EngineOptions engine_options;
    engine_options.max_model_len = 8 * kBlockSize;
    engine_options.max_running_sequences = 8;
    auto engine = Engine::Create(*std::move(runner), loaded->tokenizer, {},
                                 engine_options, &clock_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  void TearDown() override {
    if (engine_ != nullptr) engine_->Stop(kNoDeadline);
  }

  std::shared_ptr<CollectingSink> Ask(const SamplingParams& sampling) {
    Request request;
    request.id = ++last_id_;
    request.prompt =
        Golden()["tiny_llama"]["prompt"].get<std::vector<int32_t>>();
    request.sampling = sampling;
    request.arrival = clock_.Now();
    auto sink = std::make_shared<CollectingSink>();
    EXPECT_TRUE(engine_->Submit(std::move(request), sink).ok());
    return sink;
  }

  SystemClock clock_;
  std::unique_ptr<Engine> engine_;
  RequestId last_id_ = 0;
};

TEST_F(SamplingEngineGolden, GreedyAnswersAreThoseOfGenerate) {
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (const json& answer : Golden()["tiny_llama"]["answers"]) {
    SamplingParams sampling;
    ApplyOptions(answer["options"], &sampling);
    sampling.temperature = 0;
    sampling.max_tokens = 40;
    sampling.n = 2;  // all at once, and each twice
    sinks.push_back(Ask(sampling));
  }
  for (size_t i = 0; i < sinks.size(); ++i) {
    const json& answer = Golden()["tiny_llama"]["answers"][i];
    SCOPED_TRACE(answer["options"].dump());
    sinks[i]->Wait();
    EXPECT_TRUE(sinks[i]->result.status.ok());
    for (int32_t choice = 0; choice < 2; ++choice) {
      EXPECT_EQ(sinks[i]->tokens[choice],
                answer["tokens"].get<std::vector<int32_t>>());
    }
    EXPECT_EQ(sinks[i]->result.prompt_tokens, 45);
  }
}

// In chunks: thirteen outputs a step are for eight sequences.
TEST_F(SamplingEngineGolden, ThePromptsLogprobsAreThoseOfTheModel) {
  const std::vector<double> expected =
      Golden()["tiny_llama"]["prompt_logprobs"];
  const std::vector<int32_t> prompt = Golden()["tiny_llama"]["prompt"];
  SamplingParams sampling;
  sampling.max_tokens = 4;
  sampling.prompt_logprobs = 2;
  sampling.n = 3;
  const auto sink = Ask(sampling);
  sink->Wait();
  ASSERT_EQ(sink->prompt.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(sink->prompt[i].token, prompt[i + 1]);
    EXPECT_NEAR(sink->prompt[i].logprob, expected[i], 1e-4);
    ASSERT_EQ(sink->prompt[i].top.size(), 2u);
    EXPECT_GE(sink->prompt[i].top[0].logprob, sink->prompt[i].top[1].logprob);
    EXPECT_GE(sink->prompt[i].top[0].logprob, sink->prompt[i].logprob);
  }
  EXPECT_EQ(sink->tokens.size(), 3u);
}

}  // namespace
}  // namespace descant
