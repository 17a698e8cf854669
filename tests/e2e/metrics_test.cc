// The Prometheus page of a server that has worked.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "tests/e2e/client.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr auto kSettle = std::chrono::seconds(10);

// The page shows the last snapshot of the engine: scrapes until `done`.
MetricsPage ScrapeUntil(ServerProcess& server,
                        const std::function<bool(const MetricsPage&)>& done) {
  const MonotonicTime end = std::chrono::steady_clock::now() + kSettle;
  while (true) {
    auto page = Scrape(server.metrics_port());
    EXPECT_TRUE(page.ok()) << page.status();
    if (!page.ok()) return {};
    if (done(*page) || std::chrono::steady_clock::now() > end) return *page;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

TEST(MetricsTest, PageCountsWhatWasDone) {
  auto server = ServerProcess::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  std::string digest;
  ASSERT_TRUE(Upload(**server, "tuned",
                     RandomAdapterFor(GetModel(**server), {".q_proj"}, {}),
                     &digest)
                  .ok());
  constexpr int kRequests = 6;
  constexpr int kTokens = 10;
  const std::vector<int64_t> prompt = {504, 3575, 282, 4649, 314};
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < kRequests; ++i) {
    requests.push_back(GreedyRequest(prompt, i < 2 ? "tuned" : "", kTokens));
  }
  for (const Answer& answer :
       AskTogether(**server, requests, 3, Streaming::kEverySecond)) {
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  ASSERT_EQ(
      Ask(**server, GreedyRequest(prompt, "unknown", 1)).status.error_code(),
      grpc::StatusCode::NOT_FOUND);

  const MetricsPage page = ScrapeUntil(**server, [&](const MetricsPage& p) {
    return Sum(p, "vllm:generation_tokens_total") >= kRequests * kTokens &&
           Sum(p, "vllm:request_success_total") >= kRequests &&
           Sum(p, "vllm:num_requests_running") == 0;
  });
  EXPECT_EQ(Sum(page, "vllm:generation_tokens_total"), kRequests * kTokens);
  EXPECT_EQ(Sum(page, "vllm:prompt_tokens_total"),
            static_cast<double>(kRequests * prompt.size()));
  EXPECT_EQ(
      Sum(page, "vllm:request_success_total", "finished_reason=\"length\""),
      kRequests);
  EXPECT_EQ(Sum(page, "vllm:time_to_first_token_seconds_count"), kRequests);
  EXPECT_EQ(Sum(page, "vllm:inter_token_latency_seconds_count"),
            kRequests * (kTokens - 1));
  EXPECT_EQ(Sum(page, "vllm:e2e_request_latency_seconds_count"), kRequests);
  EXPECT_EQ(Sum(page, "vllm:num_requests_waiting"), 0);
  EXPECT_EQ(Sum(page, "vllm:kv_cache_usage_perc"), 0);
  EXPECT_EQ(Sum(page, "vllm:cache_config_info"), 1);
  EXPECT_GT(Sum(page, "descant_steps_total"), 0);
  EXPECT_GE(Sum(page, "descant_adapter_loads_total"), 1);
  EXPECT_EQ(Sum(page, "descant_adapter_requests_total", "adapter=\"tuned\""),
            2);
  EXPECT_EQ(
      Sum(page, "descant_adapter_generated_tokens_total", "adapter=\"tuned\""),
      2 * kTokens);
  EXPECT_EQ(Sum(page, "descant_adapter_info", digest), 1);
}

// What an inference gateway reads; the names and labels are its own.
TEST(MetricsTest, GatewaySetIsThereBeforeAnyRequest) {
  auto server = ServerProcess::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  const auto page = Scrape((*server)->metrics_port());
  ASSERT_TRUE(page.ok()) << page.status();
  for (const char* name :
       {"vllm:num_requests_running", "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc", "vllm:cache_config_info",
        "vllm:lora_requests_info", "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total", "vllm:request_success_total",
        "vllm:num_preemptions_total", "descant_build_info",
        "descant_adapter_slots", "descant_stored_adapters"}) {
    EXPECT_TRUE(Has(*page, name)) << name;
  }
  for (const auto& [series, value] : *page) {
    // The LoRA gauge has three labels and no other where it comes from.
    if (series.rfind("vllm:", 0) == 0 &&
        series.rfind("vllm:lora_requests_info", 0) != 0) {
      EXPECT_TRUE(absl::StrContains(series, "model_name=")) << series;
    }
    if (series.rfind("vllm:lora_requests_info", 0) == 0) {
      EXPECT_TRUE(absl::StrContains(series, "max_lora=")) << series;
      EXPECT_TRUE(absl::StrContains(series, "running_lora_adapters="));
      EXPECT_TRUE(absl::StrContains(series, "waiting_lora_adapters="));
    }
    if (series.rfind("vllm:cache_config_info", 0) == 0) {
      EXPECT_TRUE(absl::StrContains(series, "block_size=")) << series;
      EXPECT_TRUE(absl::StrContains(series, "num_gpu_blocks=")) << series;
    }
  }
}

}  // namespace
}  // namespace descant::e2e
