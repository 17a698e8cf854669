#include "server/request_validation.h"

#include <functional>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "runtime/base/reason.h"
#include "server/errors.h"

namespace descant {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

constexpr ModelLimits kLimits = {.vocab_size = 100,
                                 .max_model_len = 64,
                                 .max_prompt_bytes = 1000,
                                 .eos_tokens = 2};

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
using S = v1::SamplingOptions;
std::function<void(R*)> Set(void (S::*setter)(float), float value) {
  return [=](R* r) { (r->mutable_sampling()->*setter)(value); };
}
std::function<void(R*)> Bias(int64_t token, float bias) {
  return [=](R* r) {
    v1::LogitBias* entry = r->mutable_sampling()->add_logit_bias();
    entry->set_token_id(token);
    entry->set_bias(bias);
  };
}
// Every token of the vocabulary but `left`.
std::function<void(R*)> Ban(int left) {
  return [=](R* r) {
    for (int i = left; i < 100; ++i) Bias(i, -kInfinity)(r);
  };
}
std::function<void(R*)> Choices(int n, int best_of) {
  return [=](R* r) {
    r->set_n(n);
    if (best_of != 0) r->set_best_of(best_of);
  };
}
std::function<void(R*)> MinTokens(int value) {
  return [=](R* r) { r->mutable_stopping()->set_min_tokens(value); };
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
        Case{"RepetitionZero", Set(&S::set_repetition_penalty, 0),
             "sampling.repetition_penalty"},
        Case{"RepetitionNegative", Set(&S::set_repetition_penalty, -1),
             "sampling.repetition_penalty"},
        Case{"RepetitionInfinite", Set(&S::set_repetition_penalty, kInfinity),
             "sampling.repetition_penalty"},
        Case{"RepetitionTiny", Set(&S::set_repetition_penalty, 1e-38f),
             "sampling.repetition_penalty"},
        Case{"RepetitionMost", Set(&S::set_repetition_penalty, 100), ""},
        Case{"PresenceInfinite", Set(&S::set_presence_penalty, -kInfinity),
             "sampling.presence_penalty"},
        Case{"PresenceNegative", Set(&S::set_presence_penalty, -2), ""},
        Case{"FrequencyNan", Set(&S::set_frequency_penalty, kNan),
             "sampling.frequency_penalty"},
        Case{"FrequencyOver", Set(&S::set_frequency_penalty, 2.1f),
             "sampling.frequency_penalty"},
        Case{"TypicalZero", Set(&S::set_typical_p, 0), "sampling.typical_p"},
        Case{"TypicalOver", Set(&S::set_typical_p, 1.5f),
             "sampling.typical_p"},
        Case{"TypicalNan", Set(&S::set_typical_p, kNan), "sampling.typical_p"},
        Case{"BiasNan", Bias(1, kNan), "sampling.logit_bias[0].bias"},
        Case{"BiasInfinite", Bias(1, kInfinity),
             "sampling.logit_bias[0].bias"},
        Case{"BiasOver", Bias(1, 101), "sampling.logit_bias[0].bias"},
        Case{"BiasMinusInfinite", Bias(1, -kInfinity), ""},
        Case{"BiasFarBelow", Bias(1, -1e38f), ""},
        Case{"BiasTokenNegative", Bias(-1, 1),
             "sampling.logit_bias[0].token_id"},
        Case{"BiasTokenWrapping", Bias(int64_t{1} << 32, 1),
             "sampling.logit_bias[0].token_id"},
        Case{"BiasTwice",
             [](R* r) {
               Bias(7, 1)(r);
               Bias(7, 2)(r);
             },
             "sampling.logit_bias[1].token_id"},
        Case{"BiasMillion",
             [](R* r) {
               for (int i = 0; i < 1000000; ++i) Bias(i % 100, 1)(r);
             },
             "sampling.logit_bias"},
        Case{"BiasEveryToken", Ban(0), "sampling.logit_bias"},
        Case{"BiasAllButOne", Ban(1), ""},
        Case{"BiasAllButTheEnd",
             [](R* r) {
               Ban(2)(r);
               MinTokens(3)(r);
             },
             "sampling.logit_bias"},
        Case{"NZero", Choices(0, 0), "n"},
        Case{"NNegative", Choices(-1, 0), "n"},
        Case{"NHuge", Choices(2147483647, 0), "n"},
        Case{"NMost", Choices(16, 0), ""},
        Case{"BestOfLess", Choices(3, 2), "best_of"},
        Case{"BestOfNegative", Choices(1, -1), "best_of"},
        Case{"BestOfHuge", Choices(1, 2147483647), "best_of"},
        Case{"BestOfMost", Choices(4, 16), ""},
        Case{"MinTokensNegative", MinTokens(-1), "stopping.min_tokens"},
        Case{"MinTokensHuge", MinTokens(2147483647), "stopping.min_tokens"},
        Case{"MinTokensOverMax",
             [](R* r) {
               MaxTokens(4)(r);
               MinTokens(5)(r);
             },
             "stopping.min_tokens"},
        Case{"PromptLogprobsNegative",
             [](R* r) { r->mutable_output()->set_prompt_logprobs(-1); },
             "output.prompt_logprobs"},
        Case{"PromptLogprobsOver",
             [](R* r) { r->mutable_output()->set_prompt_logprobs(21); },
             "output.prompt_logprobs"},
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

TEST(ValidationTest, OneRefusalNamesEveryViolation) {
  v1::GenerateRequest request = Good();
  Temperature(-1)(&request);
  TopP(2)(&request);
  MaxTokens(-1)(&request);
  Choices(4, 2)(&request);
  const grpc::Status status =
      ToGrpcStatus(ValidateGenerate(request, kLimits).status());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  google::rpc::Status rich;
  ASSERT_TRUE(rich.ParseFromString(status.error_details()));
  google::rpc::BadRequest bad;
  for (const auto& detail : rich.details()) detail.UnpackTo(&bad);
  std::vector<std::string> fields;
  for (const auto& violation : bad.field_violations()) {
    fields.push_back(violation.field());
    EXPECT_NE(status.error_message().find(violation.description()),
              std::string::npos);
  }
  EXPECT_THAT(fields,
              ::testing::ElementsAre("sampling.temperature", "sampling.top_p",
                                     "stopping.max_tokens", "best_of"));

  for (int i = 0; i < 40; ++i) Bias(1000 + i, kNan)(&request);
  EXPECT_LT(ToGrpcStatus(ValidateGenerate(request, kLimits).status())
                .error_details()
                .size(),
            4096u);
}

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
  EXPECT_EQ(plan->sampling.prompt_logprobs, -1);
  EXPECT_EQ(plan->sampling.repetition_penalty, 1.0f);
  EXPECT_EQ(plan->sampling.typical_p, 1.0f);
  EXPECT_EQ(plan->sampling.n, 1);
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
