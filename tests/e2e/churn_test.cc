// Adapters are uploaded, replaced, rolled back, unloaded and deleted under
// generation: every answer is that of the digest it names, and what the server
// accounts comes back to where it was. DESCANT_CHURN_CYCLES cycles (default
// 200). DESCANT_CHURN_FLIPS: how many of a thousand answers may turn off in a
// near tie, where a batch may change the last bits (a GPU); none without it. An
// answer of another adapter is wrong in any case.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/e2e/client.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kGenerators = 32;
constexpr int kNames = 8;
constexpr int kContents = 24;
constexpr int kTokens = 6;
constexpr int64_t kMaxGrowthKib = 32 << 10;
const std::vector<int64_t> kPrompt = {504, 3575, 282, 4649, 314};

int Cycles() {
  const char* text = std::getenv("DESCANT_CHURN_CYCLES");
  return text == nullptr ? 200 : std::atoi(text);
}

int FlipsOfAThousand() {
  const char* text = std::getenv("DESCANT_CHURN_FLIPS");
  return text == nullptr ? 0 : std::atoi(text);
}

int64_t ResidentKib(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/status"));
  std::string word;
  int64_t kib = 0;
  while (file >> word) {
    if (word == "VmRSS:") file >> kib;
  }
  return kib;
}

v1::GenerateRequest RequestFor(const std::string& id) {
  return GreedyRequest(kPrompt, id, kTokens);
}

grpc::Status Delete(ServerProcess& server, const std::string& name) {
  grpc::ClientContext context;
  v1::DeleteAdapterRequest request;
  request.set_adapter_id(name);
  v1::DeleteAdapterResponse response;
  return server.adapters().DeleteAdapter(&context, request, &response);
}

grpc::Status Rollback(ServerProcess& server, const std::string& name) {
  grpc::ClientContext context;
  v1::RollbackAdapterRequest request;
  request.set_adapter_id(name);
  v1::RollbackAdapterResponse response;
  return server.adapters().RollbackAdapter(&context, request, &response);
}

// What the server says it holds of adapters.
std::map<std::string, double> Accounted(ServerProcess& server) {
  const auto page = Scrape(server.metrics_port());
  EXPECT_TRUE(page.ok()) << page.status();
  std::map<std::string, double> sums;
  if (!page.ok()) return sums;
  for (const char* name :
       {"descant_adapter_level_bytes", "descant_adapter_level_adapters",
        "descant_stored_adapters", "descant_stored_versions",
        "descant_stored_bytes", "descant_staged_bytes", "descant_open_uploads",
        "descant_garbage_bytes", "vllm:num_requests_running",
        "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"}) {
    sums[name] = Sum(*page, name);
  }
  return sums;
}

class ChurnTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ServerOptions options;
    // Fewer slots than adapters that run, and a host tier that overflows.
    options.flags = {"--max-adapters=6", "--host-adapter-memory=8MiB",
                     "--adapter-versions=2"};
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    for (int i = 0; i < kContents; ++i) {
      contents_.push_back(RandomAdapterFor(
          GetModel(*server_), {".q_proj", ".v_proj"},
          {.rank = 1 + i % 8, .alpha = 256, .seed = 100u + i}));
      std::string digest;
      ASSERT_TRUE(Upload(*server_, "golden", contents_.back(), &digest).ok());
      const Answer answer = Ask(*server_, RequestFor("golden"));
      ASSERT_TRUE(answer.status.ok()) << server_->Log();
      ASSERT_EQ(answer.adapter_digest, digest);
      golden_[digest] = answer.tokens;
    }
    ASSERT_TRUE(Delete(*server_, "golden").ok());
  }

  // Frees what is cached, and waits until garbage has gone.
  std::map<std::string, double> Settled() {
    std::map<std::string, double> last;
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < end) {
      last = Accounted(*server_);
      double sum = 0;
      for (const auto& [name, value] : last) sum += value;
      if (sum == 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
    return last;
  }

  // Counts an answer that is nobody's as a flip.
  bool IsAnothersAnswer(
      const std::pair<const std::string, std::vector<int32_t>>& own,
      const std::vector<int32_t>& tokens) {
    if (tokens == own.second) return false;
    if (tokens.size() != own.second.size()) return true;
    for (const auto& [digest, others] : golden_) {
      if (tokens == others) return true;
    }
    ++flips_;
    return false;
  }

  // Asks for random names until `stop`; checks each answer against the golden
  // one of the digest it names.
  void Generate(uint32_t seed, const std::atomic<bool>& stop) {
    std::mt19937 rng(seed);
    while (!stop) {
      const Answer answer =
          Ask(*server_, RequestFor(absl::StrCat("name-", rng() % kNames)));
      if (answer.status.error_code() == grpc::StatusCode::NOT_FOUND) continue;
      ++answers_;
      const auto golden = golden_.find(answer.adapter_digest);
      if (!answer.status.ok() || golden == golden_.end() ||
          IsAnothersAnswer(*golden, answer.tokens)) {
        const std::lock_guard<std::mutex> lock(mutex_);
        problems_.push_back(absl::StrCat(answer.adapter_digest, ": ",
                                         answer.status.error_code(), " ",
                                         answer.status.error_message()));
      }
    }
  }

  void Churn(int cycles, std::mt19937* rng) {
    for (int cycle = 0; cycle < cycles; ++cycle) {
      const std::string name = absl::StrCat("name-", (*rng)() % kNames);
      switch ((*rng)() % 8) {
        case 0:
          Delete(*server_, name);  // may not be there
          break;
        case 1:
          Rollback(*server_, name);  // may have nothing to go back to
          break;
        case 2: {
          grpc::ClientContext context;
          v1::UnloadAdapterRequest request;
          request.mutable_adapter()->set_adapter_id(name);
          v1::UnloadAdapterResponse response;
          server_->admin().UnloadAdapter(&context, request, &response);
          break;
        }
        default: {
          const grpc::Status status =
              Upload(*server_, name, contents_[(*rng)() % kContents]);
          EXPECT_TRUE(status.ok()) << status.error_message();
        }
      }
    }
  }

  std::unique_ptr<ServerProcess> server_;
  std::vector<AdapterFiles> contents_;
  std::map<std::string, std::vector<int32_t>> golden_;
  std::atomic<int> answers_ = 0;
  std::atomic<int> flips_ = 0;
  std::mutex mutex_;
  std::vector<std::string> problems_;
};

TEST_F(ChurnTest, EveryAnswerIsThatOfItsDigest) {
  const uint32_t seed = 20261126;
  std::printf("%d cycles, seed %u\n", Cycles(), seed);
  std::mt19937 rng(seed);
  const std::map<std::string, double> before = Settled();
  for (const auto& [name, value] : before) EXPECT_EQ(value, 0) << name;
  // A first part warms up: pools of threads, arenas of the allocator.
  int64_t warm_kib = 0;
  for (const int cycles : {Cycles() / 2, Cycles() - Cycles() / 2}) {
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (int i = 0; i < kGenerators; ++i) {
      threads.emplace_back([&, random = static_cast<uint32_t>(rng())] {
        Generate(random, stop);
      });
    }
    Churn(cycles, &rng);
    stop = true;
    for (std::thread& thread : threads) thread.join();
    for (int i = 0; i < kNames; ++i) {
      Delete(*server_, absl::StrCat("name-", i));
    }
    const std::map<std::string, double> after = Settled();
    EXPECT_EQ(after, before);
    const int64_t kib = ResidentKib(server_->pid());
    if (warm_kib == 0) warm_kib = kib;
    EXPECT_LT(kib - warm_kib, kMaxGrowthKib);
    std::printf("%d answers, %ld KiB resident\n", answers_.load(),
                static_cast<long>(kib));
  }
  EXPECT_TRUE(problems_.empty())
      << problems_.size() << " wrong, first: " << problems_.front();
  EXPECT_LE(flips_ * 1000.0, answers_ * 1.0 * FlipsOfAThousand());
  // Enough to have met changes; how many is the machine's matter.
  EXPECT_GT(answers_, Cycles() / 4);
}

}  // namespace
}  // namespace descant::e2e
