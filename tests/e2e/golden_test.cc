// The real server on the real demo model against the fp32 oracle of
// Transformers + PEFT: alone, in one mixed batch with 32 different adapters,
// streamed and not.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/cli/bench/statistics.h"
#include "tests/e2e/client.h"
#include "tests/e2e/golden_data.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

// Where the oracle's two likeliest tokens are this close, bf16 may choose the
// other one (measured with Transformers + PEFT itself: up to 0.32).
constexpr double kFlipGap = 0.35;
constexpr double kMedianEqualLength = 24;
constexpr int kTopLogprobs = 20;
constexpr int kBatch = 32;

// Where the oracle itself, still in fp32 but with weights and GEMM inputs
// rounded to bf16, errs by 2.8 at its own choice and answers with another token
// than at full precision (Transformers in bf16 errs there by 1.5, its widest
// error of all): our choice of token says nothing at this position.
bool IsUnstable(const GoldenCase& golden, size_t position) {
  return golden.adapter == "rank8" &&
         golden.prompt == std::vector<int64_t>{18914} && position == 17;
}

class GoldenTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto golden = LoadDemoGolden();
    ASSERT_TRUE(golden.ok()) << golden.status();
    golden_ = new Golden(*std::move(golden));
    auto server = ServerProcess::Start({});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = server->release();
    for (const GoldenAdapter& adapter : golden_->adapters) {
      const grpc::Status status = Upload(*server_, adapter.name, adapter.files);
      ASSERT_TRUE(status.ok())
          << adapter.name << ": " << status.error_message();
    }
    // Neighbours, so that a batch holds 32 different adapters.
    const v1::GetModelResponse model = GetModel(*server_);
    const int missing = kBatch - 1 - static_cast<int>(golden_->adapters.size());
    for (int i = 0; i < missing; ++i) {
      neighbours_.push_back(absl::StrCat("neighbour-", i));
      const RandomAdapterOptions options = {
          .rank = 1 + 3 * i, .seed = 9000 + static_cast<uint64_t>(i)};
      ASSERT_TRUE(
          Upload(*server_, neighbours_.back(),
                 RandomAdapterFor(model, {".q_proj", ".down_proj"}, options))
              .ok());
    }
  }

  static void TearDownTestSuite() {
    delete server_;
    delete golden_;
  }

  void SetUp() override { ASSERT_NE(server_, nullptr); }

  static v1::GenerateRequest RequestOf(const GoldenCase& golden) {
    v1::GenerateRequest request = GreedyRequest(
        golden.prompt, golden.adapter, static_cast<int>(golden.tokens.size()));
    request.mutable_output()->set_top_logprobs(kTopLogprobs);
    return request;
  }

  // Every case alone, once for all tests.
  static const std::vector<Answer>& Alone() {
    static const auto* answers =
        new std::vector<Answer>(AskAlone(*server_, Requests()));
    return *answers;
  }

  static std::vector<v1::GenerateRequest> Requests() {
    std::vector<v1::GenerateRequest> requests;
    for (const GoldenCase& golden : golden_->cases) {
      requests.push_back(RequestOf(golden));
    }
    return requests;
  }

  static void ExpectSameInMixedBatch(Streaming streaming);

  static Golden* golden_;
  static ServerProcess* server_;
  static std::vector<std::string> neighbours_;
};

Golden* GoldenTest::golden_ = nullptr;
ServerProcess* GoldenTest::server_ = nullptr;
std::vector<std::string> GoldenTest::neighbours_;

// Log-probability the server gave `token`. One that is not among its likeliest
// has at most the last one's.
double LogprobOf(const v1::TokenLogprobs& position, int32_t token) {
  for (const v1::TopLogprob& top : position.top()) {
    if (top.token_id() == token) return top.logprob();
  }
  return position.top(position.top_size() - 1).logprob();
}

size_t EqualLength(const std::vector<int32_t>& a,
                   const std::vector<int32_t>& b) {
  const auto end = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end.first - a.begin());
}

TEST_F(GoldenTest, TokensAndLogProbabilitiesAreTheOracles) {
  const auto yardstick = LoadYardstick();
  ASSERT_TRUE(yardstick.ok()) << yardstick.status();
  std::vector<double> errors;
  std::map<std::string, std::vector<double>> errors_by_adapter;
  std::vector<double> equal_lengths;
  for (size_t i = 0; i < golden_->cases.size(); ++i) {
    const GoldenCase& golden = golden_->cases[i];
    const Answer& answer = Alone()[i];
    SCOPED_TRACE(absl::StrCat("case ", i, " adapter '", golden.adapter,
                              "' prompt ", golden.prompt.size()));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    ASSERT_EQ(answer.tokens.size(), golden.tokens.size());
    ASSERT_EQ(answer.logprobs.size(), golden.tokens.size());
    EXPECT_EQ(answer.adapter_digest.empty(), golden.adapter.empty());
    const size_t equal = EqualLength(answer.tokens, golden.tokens);
    equal_lengths.push_back(static_cast<double>(equal));
    if (equal < golden.tokens.size() && !IsUnstable(golden, equal)) {
      EXPECT_LT(golden.gaps[equal], kFlipGap)
          << "token " << equal << ": " << answer.tokens[equal] << " instead of "
          << golden.tokens[equal];
    }
    // Up to the first difference both have seen the same tokens.
    const size_t comparable = std::min(equal + 1, golden.tokens.size());
    for (size_t t = 0; t < comparable; ++t) {
      ASSERT_EQ(answer.logprobs[t].top_size(), kTopLogprobs);
      for (const auto& [token, logprob] : golden.top[t]) {
        errors.push_back(
            std::abs(LogprobOf(answer.logprobs[t], token) - logprob));
        errors_by_adapter[golden.adapter].push_back(errors.back());
      }
    }
  }
  const double p50 = cli::Quantile(errors, 0.5);
  const double p99 = cli::Quantile(errors, 0.99);
  const double median_length = cli::Quantile(equal_lengths, 0.5);
  std::printf(
      "log-probability error p50 %.4f (yardstick %.4f), p99 %.4f (%.4f), max "
      "%.4f over %zu values; median equal length %g of 32\n",
      p50, yardstick->p50, p99, yardstick->p99, cli::Quantile(errors, 1),
      errors.size(), median_length);
  RecordProperty("logprob_error_p50", std::to_string(p50));
  RecordProperty("logprob_error_p99", std::to_string(p99));
  EXPECT_LE(p50, yardstick->p50);
  EXPECT_LE(p99, yardstick->p99);
  EXPECT_GE(median_length, kMedianEqualLength);
  // An adapter that is served as another or as none would err by what it is.
  for (const GoldenAdapter& adapter : golden_->adapters) {
    ASSERT_TRUE(yardstick->left_out_p50.contains(adapter.name));
    EXPECT_LT(cli::Quantile(errors_by_adapter[adapter.name], 0.5),
              yardstick->left_out_p50.at(adapter.name) / 2)
        << adapter.name;
  }
}

// The cases in an order in which neighbours have different adapters, with the
// other adapters' requests between them.
void GoldenTest::ExpectSameInMixedBatch(Streaming streaming) {
  std::vector<size_t> order(golden_->cases.size());
  std::vector<size_t> seen(golden_->cases.size());
  for (size_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    seen[i] = static_cast<size_t>(
        std::count_if(golden_->cases.begin(), golden_->cases.begin() + i,
                      [&](const GoldenCase& other) {
                        return other.adapter == golden_->cases[i].adapter;
                      }));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return seen[a] < seen[b]; });
  std::vector<v1::GenerateRequest> requests;
  std::vector<size_t> places(order.size());
  size_t neighbour = 0;
  for (const size_t i : order) {
    places[i] = requests.size();
    requests.push_back(RequestOf(golden_->cases[i]));
    for (int k = 0; k < 2; ++k) {
      requests.push_back(
          GreedyRequest({17, 1000, static_cast<int64_t>(2000 + neighbour)},
                        neighbours_[neighbour % neighbours_.size()], 32));
      ++neighbour;
    }
  }
  const std::vector<Answer> answers =
      AskTogether(*server_, requests, kBatch, streaming);
  for (size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(Bits(answers[places[i]]), Bits(Alone()[i]))
        << "case " << i << " adapter '" << golden_->cases[i].adapter << "'";
  }
}

TEST_F(GoldenTest, SameBitsInABatchOf32Adapters) {
  ExpectSameInMixedBatch(Streaming::kNo);
}

TEST_F(GoldenTest, SameBitsStreamedInABatchOf32Adapters) {
  ExpectSameInMixedBatch(Streaming::kYes);
}

}  // namespace
}  // namespace descant::e2e
