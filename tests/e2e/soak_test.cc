// Hours of everything at once, in short: generations, streams, clients that go,
// bad inputs, uploads, deletions, new connections. Memory does not grow, open
// files and threads stay as many as they were.
//
// DESCANT_SOAK_SECONDS: how long (default 300; the first half is warm-up, at
// most 10 minutes).
//
// Method: the server's resident set is sampled four times a second; the lowest
// of each of 20 equal parts of the time after the warm-up is taken (what is
// between is scratch of the moment), and a line is fitted through them by least
// squares. The slope, printed with its standard error, fails when it is above 1
// MiB/h by more than three of them. It is held to that from 90 minutes on: in
// a minute what is still warming up (tables that reach their size, the C
// library's arenas) is more than an hour's leak, so short runs are held to a
// greatest growth.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/e2e/client.h"
#include "tests/e2e/process_usage.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr size_t kParts = 20;
constexpr double kMaxSlope = 1 << 20;  // bytes an hour
constexpr double kSlopeFrom = 5400;    // seconds
constexpr int64_t kMaxGrowth = int64_t{2} << 20;
const std::vector<int64_t> kPrompt = {5, 6, 7, 8};

double SoakSeconds() {
  const char* text = std::getenv("DESCANT_SOAK_SECONDS");
  double seconds = 300;
  if (text != nullptr && !absl::SimpleAtod(text, &seconds)) return 300;
  return std::max(seconds, 10.0);
}

// Load that goes on until it is destroyed.
class Load {
 public:
  explicit Load(ServerProcess* server) : server_(server) {
    model_ = GetModel(*server);
    expected_ = Bits(Ask(*server, Request(0)));
    Start([this](int i) {
      Expect(Bits(Ask(*server_, Request(0))) == expected_, i);
    });
    Start([this](int i) { Stream(i); });
    Start([this](int i) { Leave(i); });
    Start([this](int i) { AskBadly(i); });
    Start([this](int i) { ReplaceAdapter(i); });
    Start([this](int i) { Reconnect(i); });
  }
  ~Load() { Stop(); }

  void Stop() {
    stopping_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  int calls() const { return calls_; }
  int wrong() const { return wrong_; }

 private:
  void Start(std::function<void(int)> work) {
    threads_.emplace_back([this, work = std::move(work)] {
      for (int i = 0; !stopping_; ++i) {
        work(i);
        ++calls_;
      }
    });
  }
  void Expect(bool right, int) { wrong_ += !right; }

  static v1::GenerateRequest Request(int i) {
    std::vector<int64_t> prompt = kPrompt;
    prompt.push_back(3 + i % 200);
    return GreedyRequest(prompt, "", 32 + i % 8);
  }

  void Stream(int i) {
    v1::GenerateRequest request = Request(i);
    request.set_n(1 + i % 3);
    request.mutable_output()->set_top_logprobs(i % 6);
    Expect(AskStreamed(*server_, request).status.ok(), i);
  }

  // Cancelled after a few tokens, or by its deadline.
  void Leave(int i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(5 + i % 100));
    v1::GenerateStreamRequest request;
    *request.mutable_request() = GreedyRequest(kPrompt, "", 480);
    const auto reader = server_->generation().GenerateStream(&context, request);
    v1::GenerateStreamResponse part;
    for (int read = 0; read < i % 7 && reader->Read(&part); ++read) {
    }
    context.TryCancel();
    while (reader->Read(&part)) {
    }
    reader->Finish();
  }

  void AskBadly(int i) {
    v1::GenerateRequest request = Request(i);
    if (i % 3 == 0) request.set_adapter_id(absl::StrCat("nobody", i));
    if (i % 3 == 1) request.mutable_sampling()->set_temperature(-1);
    if (i % 3 == 2) request.set_text_bytes("\xff\xfe");
    const grpc::StatusCode code = Ask(*server_, request).status.error_code();
    Expect(code == grpc::StatusCode::NOT_FOUND ||
               code == grpc::StatusCode::INVALID_ARGUMENT,
           i);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }

  // A few names, each uploaded, used, and now and then deleted.
  void ReplaceAdapter(int i) {
    const std::string name = absl::StrCat("a", i % 5);
    const auto files =
        RandomAdapterFor(model_, {".q_proj", ".v_proj"},
                         {.rank = 2 + i % 7, .seed = uint64_t(i)});
    Expect(Upload(*server_, name, files).ok(), i);
    Expect(Ask(*server_, GreedyRequest(kPrompt, name, 8)).status.ok(), i);
    if (i % 11 == 0) {
      grpc::ClientContext context;
      v1::DeleteAdapterRequest request;
      request.set_adapter_id(name);
      v1::DeleteAdapterResponse response;
      Expect(
          server_->adapters().DeleteAdapter(&context, request, &response).ok(),
          i);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }

  void Reconnect(int i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::GenerationService::NewStub(grpc::CreateCustomChannel(
        server_->target(), grpc::InsecureChannelCredentials(), arguments));
    grpc::ClientContext context;
    v1::GetModelResponse response;
    Expect(stub->GetModel(&context, {}, &response).ok(), i);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }

  ServerProcess* const server_;
  v1::GetModelResponse model_;
  std::string expected_;
  std::atomic<bool> stopping_{false};
  std::atomic<int> calls_{0};
  std::atomic<int> wrong_{0};
  std::vector<std::thread> threads_;
};

// Open files and threads once nobody calls.
ProcessUsage AtRest(ServerProcess& server) {
  std::this_thread::sleep_for(std::chrono::seconds(1));
  return UsageOf(server.pid());
}

TEST(SoakTest, MemoryFilesAndThreadsStay) {
  ServerOptions options;
  options.model = SourcePath("tests/golden/models/tiny-llama");
  options.flags = {"--max-running=32"};
  auto started = ServerProcess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  ServerProcess& server = **started;
  const double seconds = SoakSeconds();
  const double warm_up = std::min(seconds / 2, 600.0);
  const auto sleep = [](double time) {
    std::this_thread::sleep_for(std::chrono::duration<double>(time));
  };
  int calls = 0;
  {
    Load load(&server);
    sleep(warm_up);
    load.Stop();
    calls += load.calls();
    EXPECT_EQ(load.wrong(), 0);
  }
  const ProcessUsage before = AtRest(server);

  Load load(&server);
  const MonotonicTime begin = std::chrono::steady_clock::now();
  const double part = (seconds - warm_up) / kParts;
  std::vector<double> hours;
  std::vector<double> lowest;
  for (size_t i = 0; i < kParts; ++i) {
    int64_t low = UsageOf(server.pid()).resident_bytes;
    const auto now = [&] {
      return ToSeconds(std::chrono::steady_clock::now() - begin);
    };
    while (now() < part * static_cast<double>(i + 1)) {
      sleep(std::min(0.25, part / 4));
      low = std::min(low, UsageOf(server.pid()).resident_bytes);
    }
    hours.push_back(part * (static_cast<double>(i) + 0.5) / 3600);
    lowest.push_back(static_cast<double>(low));
  }
  load.Stop();
  calls += load.calls();
  EXPECT_EQ(load.wrong(), 0);
  const ProcessUsage after = AtRest(server);
  const Line line = FitLine(hours, lowest);
  std::printf(
      "%d calls in %.0f s, %.0f s of them warm-up; RSS %.1f MiB, slope %+.2f "
      "MiB/h, standard error %.2f, growth %+.2f MiB; threads %d -> %d, open "
      "files %d -> %d\n",
      calls, seconds, warm_up, lowest.back() / (1 << 20),
      line.slope / (1 << 20), line.slope_error / (1 << 20),
      (lowest.back() - lowest.front()) / (1 << 20), before.threads,
      after.threads, before.open_files, after.open_files);
  if (seconds >= kSlopeFrom) {
    EXPECT_LE(line.slope - 3 * line.slope_error, kMaxSlope);
  }
  EXPECT_LE(lowest.back() - lowest.front(), kMaxGrowth);
  EXPECT_EQ(after.open_files, before.open_files);
  EXPECT_EQ(after.threads, before.threads);
  EXPECT_EQ(server.Terminate(), 0) << server.Log();
}

}  // namespace
}  // namespace descant::e2e
