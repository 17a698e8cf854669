// Random requests of eight tenants at once, on the demo model: each answer has
// the bits of the same request alone. All prompts begin alike, and answers grow
// by more blocks than are kept for them, in little KV memory: so blocks are
// found again, and, among many requests, sequences give up theirs.
//
// DESCANT_ISOLATION_REQUESTS: how many; 60 without it.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/cli/adapter_upload.h"
#include "server/cli/connection.h"
#include "tests/e2e/client.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/random_requests.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kTenants = 8;
constexpr int kAdapters = 2;  // of each tenant
constexpr int kInFlight = 24;
constexpr int kPreamble = 36;     // tokens
constexpr int kLongAnswer = 224;  // two of them are more than there is
constexpr uint64_t kSeed = 20261126;

int RequestCount() {
  const char* wanted = std::getenv("DESCANT_ISOLATION_REQUESTS");
  return wanted == nullptr ? 60 : std::atoi(wanted);
}

std::string KeyOf(int tenant) { return absl::StrCat("isolation-key-", tenant); }

std::string WriteTenants(const std::string& folder) {
  const std::string path = folder + "/tenants.yaml";
  std::ofstream file(path);
  file << "tenants:\n";
  for (int i = 0; i < kTenants; ++i) {
    file << "  - {id: tenant-" << i << ", weight: " << 1 + i % 3
         << ", keys: [{id: k1, sha256: " << cli::Sha256Hex(KeyOf(i)) << "}]}\n";
  }
  file.close();
  std::filesystem::permissions(path, std::filesystem::perms::owner_read |
                                         std::filesystem::perms::owner_write);
  return path;
}

// Tenants have the same names for their adapters, and each one's first has the
// content of the one before it's second.
void UploadAdapters(const cli::Connection& connection, int tenant) {
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(connection.generation->GetModel(&context, {}, &model).ok());
  for (int i = 0; i < kAdapters; ++i) {
    const int content = tenant + i;
    RandomAdapterOptions options = {.rank = 1 + content * 5 % 16,
                                    .seed = kSeed + content};
    options.alpha = 16.0 * options.rank;
    const AdapterFiles files = RandomAdapterFor(
        model,
        content % 2 == 0
            ? std::vector<std::string>{".q_proj", ".v_proj"}
            : std::vector<std::string>{".k_proj", ".o_proj", ".down_proj"},
        options);
    v1::UploadAdapterHeader header;
    header.set_name(absl::StrCat("tuned-", i));
    header.set_config_json(files.config_json);
    header.set_format(v1::ADAPTER_FORMAT_SAFETENSORS);
    v1::UploadAdapterResponse response;
    const grpc::Status status =
        cli::UploadAdapter(connection.adapters.get(), std::move(header),
                           files.safetensors_bytes, nullptr, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
}

struct TenantRequest {
  int tenant = 0;
  v1::GenerateRequest request;
};

std::vector<TenantRequest> MakeRequests(int32_t vocab_size) {
  RandomRequests random(
      kSeed, {.vocab_size = vocab_size, .prompt_bits = 5, .max_tokens = 24});
  std::vector<int64_t> preamble(kPreamble);
  for (int64_t& token : preamble) token = random.Below(vocab_size);
  std::vector<TenantRequest> requests(RequestCount());
  for (TenantRequest& one : requests) {
    one.tenant = random.Below(kTenants);
    const int adapter = random.Below(kAdapters + 1);
    one.request =
        random.Next(adapter < kAdapters ? absl::StrCat("tuned-", adapter) : "");
    auto* prompt = one.request.mutable_token_ids()->mutable_ids();
    const std::vector<int64_t> own(prompt->begin(), prompt->end());
    prompt->Assign(preamble.begin(), preamble.end());
    prompt->Add(own.begin(), own.end());
    if (random.Below(4) > 0 || one.request.n() > 1) continue;
    one.request.mutable_stopping()->set_max_tokens(kLongAnswer);
    one.request.mutable_stopping()->set_ignore_eos(true);
    one.request.mutable_stopping()->clear_stop_strings();
  }
  return requests;
}

// Every second one streamed.
std::vector<Answer> AskAll(const std::vector<cli::Connection>& connections,
                           const std::vector<TenantRequest>& requests,
                           int in_flight) {
  std::vector<Answer> answers(requests.size());
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < in_flight; ++t) {
    threads.emplace_back([&] {
      for (size_t i = next++; i < requests.size(); i = next++) {
        v1::GenerationService::Stub& stub =
            *connections[requests[i].tenant].generation;
        answers[i] = i % 2 == 1 ? AskStreamed(stub, requests[i].request)
                                : Ask(stub, requests[i].request);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return answers;
}

TEST(IsolationTest, TenantsGetTheBitsTheyWouldGetAlone) {
  std::printf("seed %llu, %d requests\n",
              static_cast<unsigned long long>(kSeed), RequestCount());
  const TemporaryFolder folder;
  ServerOptions options;
  options.flags = {"--tenants=" + WriteTenants(folder.path()),
                   "--kv-memory=10MiB", "--max-adapters=12",
                   "--max-running=24"};
  auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  std::vector<cli::Connection> connections;
  for (int i = 0; i < kTenants; ++i) {
    connections.push_back(
        cli::Connect((*server)->target(), {.api_key = KeyOf(i)}));
    UploadAdapters(connections.back(), i);
    ASSERT_FALSE(HasFatalFailure());
  }
  grpc::ClientContext context;
  v1::GetModelResponse model;
  ASSERT_TRUE(connections[0].generation->GetModel(&context, {}, &model).ok());
  std::vector<TenantRequest> requests = MakeRequests(model.vocab_size());

  const std::vector<Answer> together = AskAll(connections, requests, kInFlight);
  const auto page = Scrape((*server)->metrics_port());
  ASSERT_TRUE(page.ok()) << page.status();
  const double preemptions = Sum(*page, "vllm:num_preemptions_total");
  const double cached = Sum(*page, "vllm:prompt_tokens_cached_total");
  std::printf("%.0f preemptions, %.0f tokens cached\n", preemptions, cached);
  EXPECT_GT(cached, 0);
  // Few requests may not crowd each other out.
  if (RequestCount() >= 300) {
    EXPECT_GT(preemptions, 0);
  }

  for (TenantRequest& one : requests) {
    one.request.set_bypass_prefix_cache(true);
  }
  const std::vector<Answer> alone = AskAll(connections, requests, 1);
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(alone[i].status.ok())
        << "request " << i << ": " << alone[i].status.error_message();
    EXPECT_FALSE(alone[i].tokens.empty());
    EXPECT_EQ(Bits(together[i]), Bits(alone[i]))
        << "request " << i << " of tenant " << requests[i].tenant;
  }
  EXPECT_EQ((*server)->Terminate(), 0) << (*server)->Log();
}

}  // namespace
}  // namespace descant::e2e
