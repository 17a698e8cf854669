// SIGTERM beside live streams and an upload: nothing that was accepted is lost,
// what comes late is told so, and the server is gone within its time.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kStreams = 100;
constexpr auto kExitTimeout = std::chrono::seconds(60);
const std::vector<int64_t> kPrompt = {5, 6, 7, 8};

std::unique_ptr<ServerProcess> Start(const std::string& adapter_dir,
                                     std::vector<std::string> flags) {
  ServerOptions options;
  options.model = SourcePath("tests/golden/models/tiny-llama");
  options.adapter_dir = adapter_dir;
  options.flags = std::move(flags);
  auto server = ServerProcess::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

// Streams that are all under way, and how they end.
class LiveStreams {
 public:
  LiveStreams(ServerProcess* server, int tokens) {
    answers_.resize(kStreams);
    for (int i = 0; i < kStreams; ++i) {
      threads_.emplace_back([this, server, tokens, i] {
        Read(server, GreedyRequest(kPrompt, i % 2 == 0 ? "" : "tuned", tokens),
             &answers_[i]);
      });
    }
    while (started_ < kStreams) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  ~LiveStreams() { Join(); }

  int finished() const { return finished_; }
  const std::vector<Answer>& Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    return answers_;
  }

 private:
  void Read(ServerProcess* server, const v1::GenerateRequest& request,
            Answer* answer) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kExitTimeout);
    v1::GenerateStreamRequest stream;
    *stream.mutable_request() = request;
    const auto reader = server->generation().GenerateStream(&context, stream);
    v1::GenerateStreamResponse part;
    bool first = true;
    while (reader->Read(&part)) {
      if (first) ++started_;
      first = false;
      const auto& ids = part.delta().token_ids();
      answer->tokens.insert(answer->tokens.end(), ids.begin(), ids.end());
    }
    if (first) ++started_;  // failed: told by its status
    answer->status = reader->Finish();
    ++finished_;
  }

  std::vector<Answer> answers_;
  std::vector<std::thread> threads_;
  std::atomic<int> started_{0};
  std::atomic<int> finished_{0};
};

// An upload that has sent half of its bytes.
class HalfUpload {
 public:
  HalfUpload(ServerProcess* server, const std::string& name,
             const AdapterFiles& files)
      : rest_(files.safetensors_bytes) {
    context_.set_deadline(std::chrono::system_clock::now() + kExitTimeout);
    writer_ = server->adapters().UploadAdapter(&context_, &response_);
    v1::UploadAdapterRequest message;
    message.mutable_header()->set_name(name);
    message.mutable_header()->set_config_json(files.config_json);
    message.mutable_header()->set_size_bytes(rest_.size());
    EXPECT_TRUE(writer_->Write(message));
    Send(rest_.size() / 2);
  }

  grpc::Status Complete() {
    Send(rest_.size());
    writer_->WritesDone();
    return writer_->Finish();
  }
  const std::string& digest() const { return response_.adapter().digest(); }

 private:
  void Send(size_t bytes) {
    v1::UploadAdapterRequest message;
    message.set_chunk(rest_.substr(0, bytes));
    rest_.erase(0, bytes);
    EXPECT_TRUE(writer_->Write(message));
  }

  std::string rest_;
  grpc::ClientContext context_;
  v1::UploadAdapterResponse response_;
  std::unique_ptr<grpc::ClientWriter<v1::UploadAdapterRequest>> writer_;
};

TEST(DrainTest, AHundredStreamsAndAnUploadEndWell) {
  const TemporaryFolder folder;
  const auto server =
      Start(folder.path(), {"--drain-timeout=30s", "--max-running=128"});
  ASSERT_NE(server, nullptr);
  const auto files = [&](uint64_t seed) {
    return RandomAdapterFor(GetModel(*server), {".q_proj"},
                            {.rank = 4, .alpha = 64, .seed = seed});
  };
  ASSERT_TRUE(Upload(*server, "tuned", files(1)).ok());
  const Answer base = Ask(*server, GreedyRequest(kPrompt, "", 480));
  const Answer tuned = Ask(*server, GreedyRequest(kPrompt, "tuned", 480));
  ASSERT_EQ(base.tokens.size(), 480u);
  ASSERT_NE(base.tokens, tuned.tokens);

  HalfUpload upload(server.get(), "half", files(2));
  LiveStreams streams(server.get(), 480);
  EXPECT_EQ(streams.finished(), 0);
  const MonotonicTime begin = std::chrono::steady_clock::now();
  server->SendTerminate();
  // Late ones are refused by name while the others go on.
  Answer late;
  do {
    late = Ask(*server, GreedyRequest(kPrompt, "", 1));
  } while (late.status.ok());
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(absl::StrContains(late.status.error_details(), "DRAINING"))
      << late.status.error_message();
  EXPECT_LT(streams.finished(), kStreams) << "not beside live streams";
  const grpc::Status uploaded = upload.Complete();
  EXPECT_TRUE(uploaded.ok()) << uploaded.error_message();
  const std::vector<Answer>& answers = streams.Join();
  for (int i = 0; i < kStreams; ++i) {
    EXPECT_TRUE(answers[i].status.ok()) << answers[i].status.error_message();
    EXPECT_EQ(answers[i].tokens, (i % 2 == 0 ? base : tuned).tokens) << i;
  }
  EXPECT_EQ(server->Wait(kExitTimeout), 0) << server->Log();
  const double took = ToSeconds(std::chrono::steady_clock::now() - begin);
  std::printf("%d streams and an upload ended, server gone after %.2f s\n",
              kStreams, took);
  EXPECT_LT(took, 30);

  // What was acknowledged is there.
  const auto again = Start(folder.path(), {});
  ASSERT_NE(again, nullptr);
  const Answer half = Ask(*again, GreedyRequest(kPrompt, "half", 4));
  EXPECT_TRUE(half.status.ok()) << half.status.error_message();
  EXPECT_EQ(half.adapter_digest, upload.digest());
}

// The grace time ends first: what is left is told so, and nothing hangs.
TEST(DrainTest, WhatOutlivesTheGraceTimeIsUnavailable) {
  const TemporaryFolder folder;
  ServerOptions options;  // the demo model: 2,000 tokens take a while
  options.adapter_dir = folder.path();
  options.flags = {"--drain-timeout=1s"};
  auto started = ServerProcess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  ServerProcess& server = **started;
  std::atomic<int> live{0};
  std::vector<grpc::Status> statuses(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < statuses.size(); ++i) {
    threads.emplace_back([&, i] {
      grpc::ClientContext context;
      v1::GenerateStreamRequest request;
      *request.mutable_request() = GreedyRequest(kPrompt, "", 8000);
      const auto reader = server.generation().GenerateStream(&context, request);
      v1::GenerateStreamResponse part;
      for (bool first = true; reader->Read(&part); first = false) {
        if (first) ++live;
      }
      statuses[i] = reader->Finish();
    });
  }
  while (live < static_cast<int>(statuses.size())) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const MonotonicTime begin = std::chrono::steady_clock::now();
  EXPECT_EQ(server.Terminate(kExitTimeout), 0) << server.Log();
  EXPECT_LT(ToSeconds(std::chrono::steady_clock::now() - begin), 5);
  for (std::thread& thread : threads) thread.join();
  for (const grpc::Status& status : statuses) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE)
        << status.error_message();
    EXPECT_TRUE(absl::StrContains(status.error_details(), "DRAINING"))
        << status.error_message();
  }
}

// The server ends by itself, what it stored stays, and whoever started it sees
// why.
TEST(DrainTest, ADeviceThatFailedForGoodEndsTheServer) {
  const TemporaryFolder folder;
  {
    ServerOptions options;
    options.model = SourcePath("tests/golden/models/tiny-llama");
    options.adapter_dir = folder.path();
    options.environment = {"DESCANT_FAILPOINTS=engine.device=error"};
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    ASSERT_TRUE(Upload(**server, "tuned",
                       RandomAdapterFor(GetModel(**server), {".q_proj"}, {}))
                    .ok());
    // Its one step is the device's last.
    EXPECT_TRUE(Ask(**server, GreedyRequest(kPrompt, "", 1)).status.ok());
    EXPECT_EQ((*server)->Wait(kExitTimeout), 70) << (*server)->Log();
    EXPECT_TRUE(absl::StrContains((*server)->Log(), "the device failed"));
  }
  const auto again = Start(folder.path(), {});
  ASSERT_NE(again, nullptr);
  EXPECT_TRUE(Ask(*again, GreedyRequest(kPrompt, "tuned", 1)).status.ok());
  EXPECT_EQ(again->Terminate(kExitTimeout), 0);
}

}  // namespace
}  // namespace descant::e2e
