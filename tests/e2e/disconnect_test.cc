// Clients that go away in every way (row 75 of tests/BAD_INPUTS.md): what their
// calls held is back, to the last block, lease, place of the tenant and byte.
//
// DESCANT_DISCONNECTS: how many (default 200).
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "adapters/identity.h"
#include "tests/e2e/client.h"
#include "tests/e2e/fault_proxy.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/process_usage.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kAtOnce = 20;
constexpr int kAdapters = 6;
constexpr int kSequences = 24;  // the tenant's limit
constexpr int kTokens = 1500;   // far more than a wave takes
constexpr char kKey[] = "e2e-key-of-acme";
const std::vector<int64_t> kPrompt = {504, 3575, 282, 4649, 314};

enum class Going { kCancel, kReset, kHalfClose, kVanish, kDeadline };
constexpr Going kWays[] = {Going::kCancel, Going::kReset, Going::kHalfClose,
                           Going::kVanish, Going::kDeadline};

int Disconnects() {
  const char* text = std::getenv("DESCANT_DISCONNECTS");
  int count = 200;
  if (text != nullptr && !absl::SimpleAtoi(text, &count)) return 200;
  return count;
}

void Authorize(grpc::ClientContext* context) {
  context->AddMetadata("authorization", absl::StrCat("Bearer ", kKey));
}

// A connection of its own, through `address`.
std::unique_ptr<v1::GenerationService::Stub> Connect(
    const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::GenerationService::NewStub(grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments));
}

class DisconnectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string tenants = folder_.path() + "/tenants.yaml";
    std::ofstream(tenants) << "tenants:\n- {id: acme, keys: [{id: k, sha256: "
                           << HexOf(Sha256Of(kKey)) << "}], limits: "
                           << "{sequences: " << kSequences
                           << ", queued-tokens: 100000}}\n";
    ASSERT_EQ(chmod(tenants.c_str(), 0600), 0);
    ServerOptions options;
    options.flags = {"--tenants=" + tenants, "--keepalive-time=1s",
                     "--keepalive-timeout=1s",
                     absl::StrCat("--max-running=", kSequences)};
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    grpc::ClientContext context;
    Authorize(&context);
    v1::GetModelResponse model;
    ASSERT_TRUE(server_->generation().GetModel(&context, {}, &model).ok());
    for (int i = 0; i < kAdapters; ++i) {
      Upload(absl::StrCat("a", i),
             RandomAdapterFor(model, {".q_proj", ".v_proj"},
                              {.alpha = 256, .seed = 1 + uint64_t(i)}));
    }
  }

  void Upload(const std::string& name, const AdapterFiles& files) {
    grpc::ClientContext context;
    Authorize(&context);
    v1::UploadAdapterResponse response;
    const auto writer = server_->adapters().UploadAdapter(&context, &response);
    v1::UploadAdapterRequest message;
    message.mutable_header()->set_name(name);
    message.mutable_header()->set_config_json(files.config_json);
    message.mutable_header()->set_size_bytes(files.safetensors_bytes.size());
    writer->Write(message);
    message.set_chunk(files.safetensors_bytes);
    writer->Write(message);
    writer->WritesDone();
    const grpc::Status status = writer->Finish();
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  // A channel that was idle may have missed a ping of the server's (gRPC looks
  // at it every 5 s only), and connects anew.
  v1::GetStatsResponse Stats() {
    grpc::Status status;
    for (int i = 0; i < 5; ++i) {
      grpc::ClientContext context;
      v1::GetStatsResponse stats;
      status = server_->admin().GetStats(&context, {}, &stats);
      if (status.ok()) return stats;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    ADD_FAILURE() << status.error_message();
    return {};
  }

  // Waits until no sequence runs or waits and no block is used.
  bool BecomesIdle(Duration timeout) {
    const MonotonicTime end = std::chrono::steady_clock::now() + timeout;
    while (std::chrono::steady_clock::now() < end) {
      const v1::GetStatsResponse stats = Stats();
      if (stats.running_requests() == 0 && stats.waiting_requests() == 0 &&
          stats.kv_blocks_used() == 0) {
        return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

  static v1::GenerateRequest Request(int i) {
    return GreedyRequest(kPrompt, absl::StrCat("a", i % kAdapters), kTokens);
  }

  // One client: comes, reads a token or two (or none), goes.
  void ComeAndGo(int i, Going way) {
    FaultProxy proxy(server_->target());
    const auto stub = Connect(proxy.address());
    grpc::ClientContext context;
    Authorize(&context);
    const auto timeout = std::chrono::milliseconds(
        way == Going::kDeadline ? 20 + 7 * (i % 50) : 60000);
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    v1::GenerateStreamRequest request;
    *request.mutable_request() = Request(i);
    const auto reader = stub->GenerateStream(&context, request);
    v1::GenerateStreamResponse part;
    const int reads = i / 5 % 4;
    for (int read = 0; read < reads && reader->Read(&part); ++read) {
    }
    if (way == Going::kCancel) context.TryCancel();
    if (way == Going::kReset) proxy.Break(Fault::kReset);
    if (way == Going::kHalfClose) proxy.Break(Fault::kHalfClose);
    if (way == Going::kVanish) {
      proxy.Break(Fault::kVanish);
      // The server has its keepalive time to notice.
      std::this_thread::sleep_for(std::chrono::milliseconds(2600));
      context.TryCancel();
    }
    while (reader->Read(&part)) {
    }
    const grpc::Status status = reader->Finish();
    EXPECT_NE(status.error_code(), grpc::StatusCode::OK);
    EXPECT_NE(status.error_code(), grpc::StatusCode::INTERNAL)
        << status.error_message();
    ++gone_;
  }

  void Wave(int first, int count, Going only, bool mixed) {
    std::vector<std::thread> clients;
    for (int i = first; i < first + count; ++i) {
      const Going way = mixed ? kWays[i % std::size(kWays)] : only;
      clients.emplace_back([this, i, way] { ComeAndGo(i, way); });
    }
    for (std::thread& client : clients) client.join();
  }

  // What everything holds once nobody is there.
  void ExpectAllBack() {
    for (int i = 0; i < kAdapters; ++i) {
      // Answers once no sequence has a lease on it.
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() +
                           std::chrono::seconds(10));
      v1::UnloadAdapterRequest request;
      request.mutable_adapter()->set_tenant("acme");
      request.mutable_adapter()->set_adapter_id(absl::StrCat("a", i));
      v1::UnloadAdapterResponse response;
      const grpc::Status status =
          server_->admin().UnloadAdapter(&context, request, &response);
      EXPECT_TRUE(status.ok()) << i << ": " << status.error_message();
    }
    EXPECT_EQ(Stats().adapter_slots_used(), 0);
    // The engine forgets a client before the transport does: who vanished
    // behind an answer that was complete is noticed by keepalive only.
    absl::StatusOr<MetricsPage> page;
    for (int i = 0; i < 100; ++i) {
      page = Scrape(server_->metrics_port());
      ASSERT_TRUE(page.ok()) << page.status();
      if (Sum(*page, "descant_request_memory_bytes") == 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_EQ(Sum(*page, "descant_request_memory_bytes"), 0);
    EXPECT_EQ(Sum(*page, "descant_numeric_faults_total"), 0);
  }

  // The tenant may have exactly its limit of answers again.
  void ExpectTenantHasItsPlaces() {
    const auto stub = Connect(server_->target());
    std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
    std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateStreamResponse>>>
        readers;
    v1::GenerateStreamResponse part;
    for (int i = 0; i <= kSequences; ++i) {
      contexts.push_back(std::make_unique<grpc::ClientContext>());
      Authorize(contexts.back().get());
      v1::GenerateStreamRequest request;
      *request.mutable_request() = Request(i);
      readers.push_back(stub->GenerateStream(contexts.back().get(), request));
      EXPECT_EQ(readers.back()->Read(&part), i < kSequences) << i;
    }
    EXPECT_EQ(readers.back()->Finish().error_code(),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
    readers.pop_back();
    for (auto& context : contexts) context->TryCancel();
    for (auto& reader : readers) {
      while (reader->Read(&part)) {
      }
      reader->Finish();
    }
  }

  TemporaryFolder folder_;
  std::unique_ptr<ServerProcess> server_;
  std::atomic<int> gone_{0};
};

TEST_F(DisconnectTest, NothingIsHeldForThoseWhoWent) {
  const int total = Disconnects();
  Wave(0, kAtOnce, Going::kCancel, /*mixed=*/true);
  ASSERT_TRUE(BecomesIdle(std::chrono::seconds(10)));
  const ProcessUsage before = UsageOf(server_->pid());
  int64_t most_steps = 0;
  int first = kAtOnce;
  while (first < total) {
    const int count = std::min(kAtOnce, total - first);
    Wave(first, count, Going::kCancel, /*mixed=*/true);
    ASSERT_TRUE(BecomesIdle(std::chrono::seconds(10))) << "after " << gone_;
    first += count;
  }
  // Each way by itself at the end: of these the server learns at once.
  for (const Going way : {Going::kCancel, Going::kReset, Going::kHalfClose}) {
    Wave(first, kAtOnce, way, /*mixed=*/false);
    // All are gone, and the engine has nothing more to do than to notice.
    const uint64_t steps = Stats().steps();
    ASSERT_TRUE(BecomesIdle(std::chrono::seconds(10)));
    most_steps = std::max<int64_t>(
        most_steps, static_cast<int64_t>(Stats().steps() - steps));
    first += kAtOnce;
  }
  ExpectTenantHasItsPlaces();
  ASSERT_TRUE(BecomesIdle(std::chrono::seconds(10)));
  ExpectAllBack();
  const ProcessUsage after = UsageOf(server_->pid());
  std::printf(
      "%d clients went; at most %ld steps from the last one's end to an idle "
      "engine; threads %d -> %d, open files %d -> %d, RSS %+.1f MiB\n",
      gone_.load(), static_cast<long>(most_steps), before.threads,
      after.threads, before.open_files, after.open_files,
      static_cast<double>(after.resident_bytes - before.resident_bytes) /
          (1 << 20));
  // The client's end is not the server's: a packet and a step lie between, and
  // on a busy machine a few more.
  // HostileCallsTest.ACancelledCallGetsNoFurtherStep counts from the server's.
  EXPECT_LE(most_steps, 50);
  EXPECT_LE(after.open_files, before.open_files + 8);
  EXPECT_EQ(server_->Terminate(), 0) << server_->Log();
}

}  // namespace
}  // namespace descant::e2e
