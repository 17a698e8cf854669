// The real server on a tiny model of every family, with 16 adapters of ranks 1
// to 64 uploaded as PEFT saves them: the oracle's answers, and the same bits
// alone and in one batch of all adapters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "server/cli/bench/statistics.h"
#include "tests/e2e/client.h"
#include "tests/e2e/golden_data.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kTopLogprobs = 20;

class FamiliesTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto family = LoadFamilyGolden(GetParam());
    ASSERT_TRUE(family.ok()) << family.status();
    golden_ = std::move(family->golden);
    auto yardstick = LoadFamilyYardstick(GetParam());
    ASSERT_TRUE(yardstick.ok()) << yardstick.status();
    yardstick_ = *std::move(yardstick);
    ServerOptions options;
    options.model = SourcePath("tests/golden/models/" + family->model);
    // Steps this small are all barrier where cores are shared.
    options.flags = {"--threads=1"};
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    for (const GoldenAdapter& adapter : golden_.adapters) {
      const grpc::Status status = Upload(*server_, adapter.name, adapter.files);
      ASSERT_TRUE(status.ok())
          << adapter.name << ": " << status.error_message();
    }
    for (const GoldenCase& golden : golden_.cases) {
      requests_.push_back(
          GreedyRequest(golden.prompt, golden.adapter,
                        static_cast<int>(golden.tokens.size())));
      requests_.back().mutable_output()->set_top_logprobs(kTopLogprobs);
    }
  }

  Golden golden_;
  Yardstick yardstick_;
  std::unique_ptr<ServerProcess> server_;
  std::vector<v1::GenerateRequest> requests_;
};

// Appends the errors up to the first token that differs from the oracle's:
// until there both have seen the same. Such a token is a near tie.
void Compare(const GoldenCase& golden, const Answer& answer, double flip_gap,
             std::vector<double>* errors) {
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.tokens.size(), golden.tokens.size());
  ASSERT_EQ(answer.logprobs.size(), golden.tokens.size());
  for (size_t t = 0; t < golden.tokens.size(); ++t) {
    for (const auto& [token, logprob] : golden.top[t]) {
      const auto& top = answer.logprobs[t].top();
      const auto found = std::find_if(
          top.begin(), top.end(),
          [token = token](const auto& x) { return x.token_id() == token; });
      ASSERT_NE(found, top.end()) << "token " << t;
      errors->push_back(std::abs(found->logprob() - logprob));
    }
    if (answer.tokens[t] != golden.tokens[t]) {
      EXPECT_LE(golden.gaps[t], flip_gap) << "token " << t;
      return;
    }
  }
}

TEST_P(FamiliesTest, TheOraclesAnswersAloneAndTheSameBitsInOneBatch) {
  ASSERT_EQ(golden_.adapters.size(), 16u);
  const std::vector<Answer> alone = AskAlone(*server_, requests_);
  std::vector<double> errors;
  for (size_t i = 0; i < alone.size(); ++i) {
    SCOPED_TRACE(golden_.cases[i].adapter + " case " + std::to_string(i));
    Compare(golden_.cases[i], alone[i], 2 * yardstick_.max, &errors);
  }
  const double p50 = cli::Quantile(errors, 0.5);
  const double p99 = cli::Quantile(errors, 0.99);
  std::printf("%s: p50 %.4f (bf16 yardstick %.4f), p99 %.4f (%.4f), %zu\n",
              GetParam(), p50, yardstick_.p50, p99, yardstick_.p99,
              errors.size());
  EXPECT_LE(p50, yardstick_.p50);
  EXPECT_LE(p99, yardstick_.p99);
  const std::vector<Answer> mixed =
      AskTogether(*server_, requests_, static_cast<int>(requests_.size()),
                  Streaming::kEverySecond);
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(Bits(mixed[i]), Bits(alone[i])) << golden_.cases[i].adapter;
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, FamiliesTest,
                         testing::Values("tiny_llama_bias", "tiny_mistral",
                                         "tiny_qwen2", "tiny_qwen3",
                                         "tiny_gemma2", "tiny_gemma3",
                                         "tiny_phi3", "tiny_phi3_longrope",
                                         "tiny_gpt2"));

// Modules under the names of PEFT, as many parts as tell them apart.
TEST(FamilyModulesTest, TheServerNamesWhatAdaptersMayTarget) {
  ServerOptions options;
  options.model = SourcePath("tests/golden/models/tiny-gpt2");
  auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_THAT(
      GetModel(**server).target_modules(),
      testing::ElementsAre("attn.c_proj", "c_fc", "mlp.c_proj", "c_attn"));
}

}  // namespace
}  // namespace descant::e2e
