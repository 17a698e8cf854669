#include "server/request_validation.h"

#include <functional>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

constexpr ModelLimits kLimits = {
    .vocab_size = 100, .max_model_len = 64, .max_prompt_bytes = 1000};

v1::GenerateRequest Good() {
  v1::GenerateRequest request;
  request.set_text("hello");
  return request;
}

struct Case {
  const char* name;
  std::function<void(v1::GenerateRequest*)> change;
  std::string field;  // of the violation; "" where the request is fine
};

class ValidationTest : public ::testing::TestWithParam<Case> {};

TEST_P(ValidationTest, HasTheStatedOutcome) {
  v1::GenerateRequest request = Good();
  GetParam().change(&request);
  const auto plan = ValidateGenerate(request, kLimits);
  if (GetParam().field.empty()) {
    EXPECT_TRUE(plan.ok()) << plan.status();
    return;
  }
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldOf(plan.status()), GetParam().field);
  EXPECT_NE(ReasonOf(plan.status()), "");
}

using R = v1::GenerateRequest;

std::function<void(R*)> Temperature(float value) {
  return [value](R* r) { r->mutable_sampling()->set_temperature(value); };
}
std::function<void(R*)> TopP(float value) {
  return [value](R* r) { r->mutable_sampling()->set_top_p(value); };
}
std::function<void(R*)> MinP(float value) {
  return [value](R* r) { r->mutable_sampling()->set_min_p(value); };
}
std::function<void(R*)> MaxTokens(int value) {
  return [value](R* r) { r->mutable_stopping()->set_max_tokens(value); };
}
std::function<void(R*)> TopLogprobs(int value) {
  return [value](R* r) { r->mutable_output()->set_top_logprobs(value); };
}
std::function<void(R*)> StopStrings(int count, size_t length) {
  return [=](R* r) {
    for (int i = 0; i < count; ++i) {
      r->mutable_stopping()->add_stop_strings(std::string(length, 'x'));
    }
  };
}
std::function<void(R*)> StopId(int64_t id) {
  return [id](R* r) { r->mutable_stopping()->add_stop_token_ids(id); };
}

INSTANTIATE_TEST_SUITE_P(
    Rows56To68, ValidationTest,
    ::testing::Values(
        Case{"Good", [](R*) {}, ""},
        Case{"NoPrompt", [](R* r) { r->clear_prompt(); }, "prompt"},
        Case{"Greedy", Temperature(0), ""},
        Case{"TinyTemperature", Temperature(1e-45f), ""},
        Case{"HugeTemperature", Temperature(3e38f), ""},
        Case{"NegativeTemperature", Temperature(-1), "sampling.temperature"},
        Case{"NanTemperature", Temperature(kNan), "sampling.temperature"},
        Case{"InfiniteTemperature", Temperature(kInfinity),
             "sampling.temperature"},
        Case{"TopPZero", TopP(0), "sampling.top_p"},
        Case{"TopPOne", TopP(1), ""},
        Case{"TopPOver", TopP(1.1f), "sampling.top_p"},
        Case{"TopPNan", TopP(kNan), "sampling.top_p"},
        Case{"MinPTwo", MinP(2), "sampling.min_p"},
        Case{"MinPNegative", MinP(-0.1f), "sampling.min_p"},
        Case{"MinPInfinite", MinP(kInfinity), "sampling.min_p"},
        Case{"TopKNegative", [](R* r) { r->mutable_sampling()->set_top_k(-5); },
             "sampling.top_k"},
        Case{"TopKHuge",
             [](R* r) { r->mutable_sampling()->set_top_k(1 << 30); }, ""},
        Case{"SeedExtreme",
             [](R* r) { r->mutable_sampling()->set_seed(~uint64_t{0}); }, ""},
        Case{"MaxTokensZero", MaxTokens(0), "stopping.max_tokens"},
        Case{"MaxTokensNegative", MaxTokens(-1), "stopping.max_tokens"},
        Case{"MaxTokensHuge", MaxTokens(2147483647), "stopping.max_tokens"},
        Case{"MaxTokensContext", MaxTokens(64), ""},
        Case{"TopLogprobsNegative", TopLogprobs(-1), "output.top_logprobs"},
        Case{"TopLogprobsMost", TopLogprobs(20), ""},
        Case{"TopLogprobsOver", TopLogprobs(21), "output.top_logprobs"},
        Case{"TopLogprobsHuge", TopLogprobs(2147483647), "output.top_logprobs"},
        Case{"ManyStops", StopStrings(10000, 1), "stopping.stop_strings"},
        Case{"EmptyStop", StopStrings(1, 0), "stopping.stop_strings[0]"},
        Case{"LongStop", StopStrings(1, 1 << 20), "stopping.stop_strings[0]"},
        Case{"SixteenStops", StopStrings(16, 256), ""},
        Case{"StopIdNegative", StopId(-1), "stopping.stop_token_ids[0]"},
        Case{"StopIdVocabulary", StopId(100), "stopping.stop_token_ids[0]"},
        Case{"StopIdWrapping", StopId(int64_t{1} << 32),
             "stopping.stop_token_ids[0]"},
        Case{"LongClientId",
             [](R* r) { r->set_client_request_id(std::string(129, 'x')); },
             "client_request_id"},
        Case{"PriorityLowest",
             [](R* r) { r->set_priority(std::numeric_limits<int32_t>::min()); },
             "priority"},
        Case{"AdapterIdLong",
             [](R* r) { r->set_adapter_id(std::string(1 << 20, 'a')); },
             "adapter_id"}),
    [](const auto& info) { return info.param.name; });

TEST(ValidationTest, EmptyAdapterIdIsNotTheBase) {
  v1::GenerateRequest request = Good();
  request.set_adapter_id("");
  const auto plan = ValidateGenerate(request, kLimits);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ValidationTest, UnsetFieldsHaveTheirDefaults) {
  const auto plan = ValidateGenerate(Good(), kLimits);
  ASSERT_TRUE(plan.ok());
  EXPECT_FALSE(plan->adapter.has_value());
  EXPECT_EQ(plan->sampling.temperature, 1.0f);
  EXPECT_EQ(plan->sampling.top_p, 1.0f);
  EXPECT_EQ(plan->sampling.top_k, 0);
  EXPECT_EQ(plan->sampling.top_logprobs, -1);
  EXPECT_FALSE(plan->has_seed);
  EXPECT_FALSE(plan->sampling.ignore_eos);
}

TEST(ValidationTest, TinyTemperatureIsGreedy) {
  v1::GenerateRequest request = Good();
  request.mutable_sampling()->set_temperature(1e-45f);
  EXPECT_EQ(ValidateGenerate(request, kLimits)->sampling.temperature, 0);
}

TEST(ValidationTest, TokenIdsAreChecked) {
  google::protobuf::RepeatedField<int64_t> ids;
  ids.Add(0);
  ids.Add(99);
  EXPECT_EQ(*ValidateTokenIds(ids, "ids", kLimits),
            (std::vector<int32_t>{0, 99}));
  for (const int64_t bad : {int64_t{-1}, int64_t{100}, int64_t{1} << 32}) {
    ids.Set(1, bad);
    const auto tokens = ValidateTokenIds(ids, "ids", kLimits);
    ASSERT_FALSE(tokens.ok()) << bad;
    EXPECT_EQ(FieldOf(tokens.status()), "ids[1]");
  }
}

TEST(ValidationTest, PromptAndAnswerFitTheContext) {
  GenerationPlan plan;
  plan.has_max_tokens = true;
  plan.sampling.max_tokens = 24;
  EXPECT_TRUE(FitMaxTokens(40, kLimits, &plan).ok());
  EXPECT_EQ(plan.sampling.max_tokens, 24);
  EXPECT_EQ(FieldOf(FitMaxTokens(41, kLimits, &plan)), "stopping.max_tokens");

  plan.has_max_tokens = false;
  plan.sampling.max_tokens = 256;
  EXPECT_TRUE(FitMaxTokens(41, kLimits, &plan).ok());
  EXPECT_EQ(plan.sampling.max_tokens, 23);
  EXPECT_TRUE(FitMaxTokens(63, kLimits, &plan).ok());
  EXPECT_EQ(FieldOf(FitMaxTokens(64, kLimits, &plan)), "prompt");
  EXPECT_EQ(FieldOf(FitMaxTokens(1000, kLimits, &plan)), "prompt");
}

}  // namespace
}  // namespace descant
