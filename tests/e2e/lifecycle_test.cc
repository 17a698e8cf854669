// An adapter's life across uploads, versions and restarts; the server's own
// start and end.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/cli/adapter_upload.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr auto kExitTimeout = std::chrono::seconds(60);
constexpr int kStreams = 8;
const std::vector<int64_t> kPrompt = {504, 3575, 282, 4649, 314};

std::unique_ptr<ServerProcess> StartWith(const std::string& adapter_dir) {
  ServerOptions options;
  options.adapter_dir = adapter_dir;
  auto server = ServerProcess::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

AdapterFiles FilesOf(ServerProcess& server, uint64_t seed) {
  return RandomAdapterFor(GetModel(server), {".q_proj", ".v_proj"},
                          {.rank = 8, .alpha = 256, .seed = seed});
}

grpc::Status UploadNew(ServerProcess& server, const std::string& name,
                       const AdapterFiles& files, bool* created) {
  v1::UploadAdapterHeader header;
  header.set_name(name);
  header.set_config_json(files.config_json);
  v1::UploadAdapterResponse response;
  const grpc::Status status =
      cli::UploadAdapter(&server.adapters(), std::move(header),
                         files.safetensors_bytes, nullptr, &response);
  *created = response.created();
  return status;
}

std::vector<v1::Adapter> List(ServerProcess& server) {
  grpc::ClientContext context;
  v1::ListAdaptersResponse response;
  EXPECT_TRUE(server.adapters().ListAdapters(&context, {}, &response).ok());
  return {response.adapters().begin(), response.adapters().end()};
}

grpc::Status Delete(ServerProcess& server, const std::string& id) {
  grpc::ClientContext context;
  v1::DeleteAdapterRequest request;
  request.set_adapter_id(id);
  v1::DeleteAdapterResponse response;
  return server.adapters().DeleteAdapter(&context, request, &response);
}

TEST(LifecycleTest, VersionsOfAName) {
  const TemporaryFolder folder;
  const auto server = StartWith(folder.path());
  ASSERT_NE(server, nullptr);
  EXPECT_TRUE(List(*server).empty());
  const AdapterFiles first = FilesOf(*server, 1);
  const AdapterFiles second = FilesOf(*server, 2);

  bool created = false;
  ASSERT_TRUE(UploadNew(*server, "alice", first, &created).ok());
  EXPECT_TRUE(created);
  ASSERT_TRUE(UploadNew(*server, "alice", first, &created).ok());
  EXPECT_FALSE(created) << "the same content again";
  EXPECT_EQ(UploadNew(*server, "alice", second, &created).error_code(),
            grpc::StatusCode::ALREADY_EXISTS);
  const Answer before = Ask(*server, GreedyRequest(kPrompt, "alice", 16));
  ASSERT_TRUE(before.status.ok()) << before.status.error_message();

  std::string digest;
  ASSERT_TRUE(Upload(*server, "alice", second, &digest).ok());
  const Answer after = Ask(*server, GreedyRequest(kPrompt, "alice", 16));
  ASSERT_TRUE(after.status.ok());
  EXPECT_EQ(after.adapter_digest, digest);
  EXPECT_NE(before.adapter_digest, digest);
  EXPECT_NE(before.tokens, after.tokens);
  const Answer pinned =
      Ask(*server, GreedyRequest(kPrompt, "alice@" + digest, 16));
  EXPECT_EQ(Bits(pinned), Bits(after));
  // The version before is kept; one that never was is not there.
  EXPECT_EQ(
      Bits(Ask(*server,
               GreedyRequest(kPrompt, "alice@" + before.adapter_digest, 16))),
      Bits(before));
  EXPECT_EQ(
      Ask(*server,
          GreedyRequest(kPrompt, "alice@sha256:" + std::string(64, '0'), 16))
          .status.error_code(),
      grpc::StatusCode::NOT_FOUND);

  const std::vector<v1::Adapter> listed = List(*server);
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].name(), "alice");
  EXPECT_EQ(listed[0].digest(), digest);
  EXPECT_EQ(listed[0].max_rank(), 8);
  EXPECT_EQ(listed[0].state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ(listed[0].size_bytes(), second.safetensors_bytes.size());
}

TEST(LifecycleTest, AdaptersSurviveRestartAndKill) {
  const TemporaryFolder folder;
  auto server = StartWith(folder.path());
  ASSERT_NE(server, nullptr);
  std::string digest;
  ASSERT_TRUE(Upload(*server, "kept", FilesOf(*server, 3), &digest).ok());
  ASSERT_TRUE(Upload(*server, "gone", FilesOf(*server, 4)).ok());
  ASSERT_TRUE(Delete(*server, "gone").ok());
  EXPECT_EQ(Ask(*server, GreedyRequest(kPrompt, "gone", 4)).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Delete(*server, "gone").error_code(), grpc::StatusCode::NOT_FOUND);
  const Answer before = Ask(*server, GreedyRequest(kPrompt, "kept", 16));
  ASSERT_TRUE(before.status.ok());
  EXPECT_EQ(before.adapter_digest, digest);
  EXPECT_EQ(server->Terminate(), 0) << server->Log();

  server = StartWith(folder.path());
  ASSERT_NE(server, nullptr);
  std::vector<v1::Adapter> listed = List(*server);
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].name(), "kept");
  EXPECT_EQ(listed[0].digest(), digest);
  EXPECT_EQ(Bits(Ask(*server, GreedyRequest(kPrompt, "kept", 16))),
            Bits(before));
  // Killed right after the OK of an upload and of a deletion.
  std::string second;
  ASSERT_TRUE(Upload(*server, "second", FilesOf(*server, 5), &second).ok());
  ASSERT_TRUE(Delete(*server, "kept").ok());
  server->Kill();
  EXPECT_EQ(server->Wait(kExitTimeout), 128 + 9);

  server = StartWith(folder.path());
  ASSERT_NE(server, nullptr);
  listed = List(*server);
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].name(), "second");
  EXPECT_EQ(listed[0].digest(), second);
}

TEST(LifecycleTest, TerminationLetsStreamsFinish) {
  const TemporaryFolder folder;
  const auto server = StartWith(folder.path());
  ASSERT_NE(server, nullptr);
  constexpr int kTokens = 96;
  std::atomic<int> started = 0;
  std::vector<Answer> answers(kStreams);
  std::vector<std::thread> threads;
  for (int i = 0; i < kStreams; ++i) {
    threads.emplace_back([&, i] {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kExitTimeout);
      v1::GenerateStreamRequest request;
      *request.mutable_request() = GreedyRequest(kPrompt, "", kTokens);
      auto reader = server->generation().GenerateStream(&context, request);
      v1::GenerateStreamResponse response;
      bool first = true;
      while (reader->Read(&response)) {
        if (first) ++started;
        first = false;
        const auto& ids = response.delta().token_ids();
        answers[i].tokens.insert(answers[i].tokens.end(), ids.begin(),
                                 ids.end());
      }
      if (first) ++started;  // failed: reported below
      answers[i].status = reader->Finish();
    });
  }
  while (started < kStreams) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const int code = server->Terminate(kExitTimeout);
  for (std::thread& thread : threads) thread.join();
  for (const Answer& answer : answers) {
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.tokens.size(), size_t{kTokens});
  }
  EXPECT_EQ(code, 0) << server->Log();
  const Answer late = Ask(*server, GreedyRequest(kPrompt, "", 1));
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

// Runs a server that can't start; returns its exit code.
int ExitCodeOf(const ServerOptions& options, std::string* log) {
  auto server = ServerProcess::Launch(options);
  EXPECT_TRUE(server.ok()) << server.status();
  if (!server.ok()) return -1;
  const int code = (*server)->Wait(kExitTimeout);
  *log = (*server)->Log();
  return code;
}

TEST(LifecycleTest, BadConfigurationIsExitCode78) {
  const TemporaryFolder folder;
  const std::string broken = folder.path() + "/broken.gguf";
  std::ofstream(broken) << "GGUF and then nothing of the kind";
  std::string log;
  ServerOptions options;
  options.model = broken;
  EXPECT_EQ(ExitCodeOf(options, &log), 78) << log;
  EXPECT_TRUE(absl::StrContains(log, "broken.gguf")) << log;

  options.model = folder.path() + "/nowhere.gguf";
  EXPECT_EQ(ExitCodeOf(options, &log), 78) << log;
  EXPECT_TRUE(absl::StrContains(log, "nowhere.gguf")) << log;

  options.model = DemoModelPath();
  options.flags = {"--no-such-flag=1"};
  EXPECT_EQ(ExitCodeOf(options, &log), 78) << log;
  EXPECT_TRUE(absl::StrContains(log, "no-such-flag")) << log;

  options.flags = {"--token-budget=-5"};
  EXPECT_EQ(ExitCodeOf(options, &log), 78) << log;

  options.flags = {"--listen=0.0.0.0:0"};
  EXPECT_EQ(ExitCodeOf(options, &log), 78)
      << "open to the network without a word: " << log;
}

}  // namespace
}  // namespace descant::e2e
