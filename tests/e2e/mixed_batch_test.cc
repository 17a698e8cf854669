// 200 random requests of different adapters at once, while other adapters are
// uploaded and deleted: each answer has the bits of the same request alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/e2e/client.h"
#include "tests/e2e/random_requests.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kRequests = 200;
constexpr int kInFlight = 24;
constexpr int kAdapters = 12;
constexpr uint64_t kSeed = 20261123;

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
  RandomRequests random(kSeed, {.vocab_size = model.vocab_size()});
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < kRequests; ++i) {
    const int adapter = random.Below(kAdapters + 3);
    requests.push_back(random.Next(
        adapter < kAdapters ? absl::StrCat("random-", adapter) : ""));
  }

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
