// 200 random requests of different adapters at once, while other adapters are
// uploaded and deleted: each answer has the bits of the same request alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kRequests = 200;
constexpr int kInFlight = 24;
constexpr int kAdapters = 12;
constexpr uint64_t kSeed = 20261123;

class RandomRequests {
 public:
  explicit RandomRequests(uint64_t seed, int32_t vocab_size)
      : generator_(seed), vocab_size_(vocab_size) {}

  v1::GenerateRequest Next() {
    // Short prompts are as frequent as long ones, up to several chunks of
    // prefill.
    const int length = 1 << Below(10);
    std::vector<int64_t> prompt(length + Below(length));
    for (int64_t& token : prompt) token = Below(vocab_size_);
    const int adapter = Below(kAdapters + 3);
    v1::GenerateRequest request = GreedyRequest(
        prompt, adapter < kAdapters ? absl::StrCat("random-", adapter) : "",
        1 + Below(40));
    request.mutable_stopping()->set_ignore_eos(Below(2) == 0);
    if (Below(3) > 0) SetSampling(request.mutable_sampling());
    if (Below(4) == 0) {
      request.mutable_stopping()->add_stop_strings("e");
      request.mutable_stopping()->add_stop_strings(" the");
    }
    if (Below(8) == 0) {
      for (int i = 0; i < 16; ++i) {
        request.mutable_stopping()->add_stop_token_ids(Below(vocab_size_));
      }
    }
    if (Below(2) == 0) request.mutable_output()->set_top_logprobs(Below(21));
    request.set_priority(Below(201) - 100);
    if (Below(4) == 0) SetMore(&request);
    return request;
  }

 private:
  int Below(int bound) {
    return static_cast<int>(generator_() % static_cast<uint64_t>(bound));
  }

  void SetSampling(v1::SamplingOptions* sampling) {
    sampling->set_temperature(0.25f * static_cast<float>(1 + Below(8)));
    sampling->set_seed(generator_());
    if (Below(2) == 0) sampling->set_top_k(1 + Below(100));
    if (Below(2) == 0) sampling->set_top_p(0.05f * (1 + Below(20)));
    if (Below(3) == 0) sampling->set_min_p(0.01f * Below(30));
  }

  void SetMore(v1::GenerateRequest* request) {
    request->set_n(1 + Below(4));
    v1::SamplingOptions* sampling = request->mutable_sampling();
    if (Below(2) == 0) sampling->set_repetition_penalty(1.2f);
    if (Below(2) == 0) sampling->set_frequency_penalty(0.5f);
    if (Below(2) == 0) sampling->set_typical_p(0.9f);
    v1::LogitBias* bias = sampling->add_logit_bias();
    bias->set_token_id(Below(vocab_size_));
    bias->set_bias(static_cast<float>(Below(20)) - 10);
    v1::StoppingOptions* stopping = request->mutable_stopping();
    stopping->set_min_tokens(Below(stopping->max_tokens()));
    if (Below(2) == 0) request->mutable_output()->set_prompt_logprobs(2);
    request->mutable_output()->set_echo(Below(2) == 0);
  }

  std::mt19937_64 generator_;
  const int32_t vocab_size_;
};

void UploadAdapters(ServerProcess& server, const v1::GetModelResponse& model) {
  const std::vector<std::vector<std::string>> kModules = {
      {".q_proj", ".v_proj"},
      {".q_proj", ".k_proj", ".v_proj", ".o_proj"},
      {".q_proj", ".k_proj", ".v_proj", ".o_proj", ".gate_proj", ".up_proj",
       ".down_proj"},
      {".down_proj"}};
  const std::vector<int32_t> kRanks = {1, 8, 3, 16, 64, 5};
  for (int i = 0; i < kAdapters; ++i) {
    RandomAdapterOptions options = {.rank = kRanks[i % kRanks.size()],
                                    .seed = kSeed + static_cast<uint64_t>(i)};
    options.alpha = 16.0 * options.rank;
    const grpc::Status status =
        Upload(server, absl::StrCat("random-", i),
               RandomAdapterFor(model, kModules[i % kModules.size()], options));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
}

// Uploads, uses and deletes adapters until told to stop. Returns how many.
int Churn(ServerProcess& server, const v1::GetModelResponse& model,
          const std::atomic<bool>& stop) {
  int rounds = 0;
  while (!stop) {
    const std::string name = absl::StrCat("churn-", rounds % 3);
    const AdapterFiles files = RandomAdapterFor(
        model, {".q_proj", ".v_proj"},
        {.rank = 1 + rounds % 16, .seed = 77 + static_cast<uint64_t>(rounds)});
    std::string digest;
    const grpc::Status status = Upload(server, name, files, &digest);
    EXPECT_TRUE(status.ok()) << status.error_message();
    const Answer answer = Ask(server, GreedyRequest({1, 2, 3, 4}, name, 4));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.adapter_digest, digest);
    grpc::ClientContext context;
    v1::DeleteAdapterRequest request;
    request.set_adapter_id(name);
    v1::DeleteAdapterResponse response;
    EXPECT_TRUE(
        server.adapters().DeleteAdapter(&context, request, &response).ok());
    EXPECT_EQ(response.digest(), digest);
    ++rounds;
  }
  return rounds;
}

TEST(MixedBatchTest, SameBitsAloneAndAmongOthers) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  auto server = ServerProcess::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  const v1::GetModelResponse model = GetModel(**server);
  ASSERT_GT(model.linear_modules_size(), 0);
  UploadAdapters(**server, model);
  RandomRequests random(kSeed, model.vocab_size());
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < kRequests; ++i) requests.push_back(random.Next());

  std::atomic<bool> stop = false;
  int rounds = 0;
  std::thread churn([&] { rounds = Churn(**server, model, stop); });
  const std::vector<Answer> together =
      AskTogether(**server, requests, kInFlight, Streaming::kEverySecond);
  stop = true;
  churn.join();
  EXPECT_GT(rounds, 3);
  std::printf("%d adapters uploaded, used and deleted meanwhile\n", rounds);

  const std::vector<Answer> alone = AskAlone(**server, requests);
  size_t tokens = 0;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(alone[i].status.ok())
        << "request " << i << ": " << alone[i].status.error_message();
    EXPECT_FALSE(alone[i].tokens.empty());
    EXPECT_EQ(Bits(together[i]), Bits(alone[i])) << "request " << i;
    tokens += alone[i].tokens.size();
  }
  EXPECT_GT(tokens, size_t{kRequests} * 4);
  EXPECT_EQ((*server)->Terminate(), 0) << (*server)->Log();
}

double MeanLogprob(const v1::Choice& choice) {
  double sum = 0;
  for (const v1::TokenLogprobs& token : choice.logprobs()) {
    sum += token.logprob();
  }
  return sum / choice.logprobs_size();
}

TEST(MixedBatchTest, BestOfGivesTheLikeliestOnAverage) {
  auto server = ServerProcess::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  v1::GenerateRequest request = GreedyRequest({504, 2451, 314}, "", 12);
  request.mutable_stopping()->set_ignore_eos(false);
  request.mutable_sampling()->set_temperature(1.2f);
  request.mutable_sampling()->set_seed(kSeed);
  request.mutable_output()->set_logprobs(true);
  const auto ask = [&] {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::Status status =
        (*server)->generation().Generate(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  };
  request.set_n(8);
  const v1::GenerateResponse all = ask();
  ASSERT_EQ(all.choices_size(), 8);
  std::vector<const v1::Choice*> order;
  for (const v1::Choice& choice : all.choices()) order.push_back(&choice);
  std::stable_sort(order.begin(), order.end(),
                   [](const v1::Choice* a, const v1::Choice* b) {
                     return MeanLogprob(*a) > MeanLogprob(*b);
                   });
  // Else the order they came in would do.
  ASSERT_FALSE(order[0] == &all.choices(0) && order[1] == &all.choices(1) &&
               order[2] == &all.choices(2));
  request.set_n(3);
  request.set_best_of(8);
  const v1::GenerateResponse best = ask();
  ASSERT_EQ(best.choices_size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(best.choices(i).index(), static_cast<uint32_t>(i));
    EXPECT_EQ(best.choices(i).text(), order[i]->text());
    EXPECT_EQ(MeanLogprob(best.choices(i)), MeanLogprob(*order[i]));
  }
  EXPECT_EQ((*server)->Terminate(), 0) << (*server)->Log();
}

}  // namespace
}  // namespace descant::e2e
