// Readers that stop (row 74 of tests/BAD_INPUTS.md): each is paused at its cap,
// then failed by name; its memory and its sequences are back, and others'
// tokens never change.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/limits.h"
#include "tests/e2e/client.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/process_usage.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kReaders = 50;
constexpr int kWindow =
    4096;  // of a reader: its share of the transport's memory
// Twice what one may have: waiting, and on its way, in the message and encoded;
// and what gRPC has of a connection and a call.
constexpr int64_t kPerReader = 4 * int64_t{limits::kMaxStreamPendingBytes} +
                               limits::kWriteBufferBytes + (128 << 10);
constexpr int kGoodCalls = 60;

struct Reader {
  std::unique_ptr<v1::GenerationService::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>> stream;
};

// Two answers of 480 tokens, each with 20 alternatives: near a megabyte.
std::unique_ptr<Reader> StartReader(const std::string& target) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindow);
  auto reader = std::make_unique<Reader>();
  reader->stub = v1::GenerationService::NewStub(grpc::CreateCustomChannel(
      target, grpc::InsecureChannelCredentials(), arguments));
  v1::GenerateStreamRequest request;
  *request.mutable_request() = GreedyRequest({5, 6, 7}, "", 480);
  request.mutable_request()->set_n(2);
  request.mutable_request()->mutable_output()->set_top_logprobs(20);
  reader->stream = reader->stub->GenerateStream(&reader->context, request);
  return reader;
}

v1::GetStatsResponse Stats(ServerProcess& server) {
  grpc::ClientContext context;
  v1::GetStatsResponse stats;
  EXPECT_TRUE(server.admin().GetStats(&context, {}, &stats).ok());
  return stats;
}

// The median time of good calls; `wrong` counts those whose answer changed.
double GoodCalls(ServerProcess& server, const std::string& expected,
                 int* wrong) {
  std::vector<double> seconds;
  for (int i = 0; i < kGoodCalls; ++i) {
    const MonotonicTime begin = std::chrono::steady_clock::now();
    const Answer answer = Ask(server, GreedyRequest({9, 8, 7}, "", 64));
    seconds.push_back(ToSeconds(std::chrono::steady_clock::now() - begin));
    *wrong += Bits(answer) != expected;
  }
  return Quantile(seconds, 0.5);
}

TEST(SlowReadersTest, ArePausedThenFailedAndFreed) {
  ServerOptions options;
  options.model = SourcePath("tests/golden/models/tiny-llama");
  options.flags = {"--stream-stall-timeout=4s", "--max-running=128",
                   "--prefix-cache=off", "--kv-memory=256MiB"};
  auto started = ServerProcess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  ServerProcess& server = **started;
  const std::string expected =
      Bits(Ask(server, GreedyRequest({9, 8, 7}, "", 64)));
  int wrong = 0;
  const double quiet = GoodCalls(server, expected, &wrong);
  const int64_t before = UsageOf(server.pid()).resident_bytes;

  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.push_back(StartReader(server.target()));
  }
  // Paused: sequences are there, and no step is made any more.
  bool paused = false;
  uint64_t steps = 0;
  const MonotonicTime begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 200 && !paused; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const v1::GetStatsResponse stats = Stats(server);
    paused =
        stats.running_requests() + stats.waiting_requests() == 2 * kReaders &&
        stats.steps() == steps;
    steps = stats.steps();
  }
  EXPECT_TRUE(paused) << Stats(server).DebugString();
  const int64_t held = UsageOf(server.pid()).resident_bytes - before;
  const double beside = GoodCalls(server, expected, &wrong);
  std::printf(
      "%d readers stopped, all paused after %.1f s: %.1f MiB (%.2f each, cap "
      "%.2f); median of good calls %.1f ms, before %.1f ms\n",
      kReaders, ToSeconds(std::chrono::steady_clock::now() - begin),
      static_cast<double>(held) / (1 << 20),
      static_cast<double>(held) / kReaders / (1 << 20),
      static_cast<double>(kPerReader) / (1 << 20), 1e3 * beside, 1e3 * quiet);
  EXPECT_LE(held, kReaders * kPerReader);
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(beside, 2 * quiet + 0.01);

  // Nobody reads; so they are ended.
  bool idle = false;
  for (int i = 0; i < 200 && !idle; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    const v1::GetStatsResponse stats = Stats(server);
    idle = stats.running_requests() == 0 && stats.waiting_requests() == 0 &&
           stats.kv_blocks_used() == 0;
  }
  EXPECT_TRUE(idle);
  for (const auto& reader : readers) {
    v1::GenerateStreamResponse part;
    while (reader->stream->Read(&part)) {
    }
    const grpc::Status status = reader->stream->Finish();
    // One that reads only after its status had waited for as long again finds
    // its call cancelled.
    EXPECT_TRUE(status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED ||
                status.error_code() == grpc::StatusCode::CANCELLED)
        << status.error_code() << " " << status.error_message();
    if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      EXPECT_TRUE(absl::StrContains(status.error_details(), "STREAM_STALLED"));
    }
  }
  // A client knows that its call has ended before the server lets go of it.
  double held_bytes = -1;
  for (int i = 0; i < 100 && held_bytes != 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const auto page = Scrape(server.metrics_port());
    ASSERT_TRUE(page.ok()) << page.status();
    held_bytes = Sum(*page, "descant_request_memory_bytes");
  }
  EXPECT_EQ(held_bytes, 0);
  EXPECT_EQ(Bits(Ask(server, GreedyRequest({9, 8, 7}, "", 64))), expected);
  EXPECT_EQ(server.Terminate(), 0) << server.Log();
}

}  // namespace
}  // namespace descant::e2e
