// What a start takes from disk, and what is read from there later: packed
// weights and adapters, whole and damaged.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
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

namespace stdfs = std::filesystem;

const std::vector<int64_t> kPrompt = {504, 3575, 282, 4649, 314};

// Flips a bit in the last byte.
void Damage(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const char last = static_cast<char>(file.get());
  file.seekp(-1, std::ios::end);
  file.put(static_cast<char>(last ^ 1));
}

std::string FileBelow(const std::string& folder, const std::string& name) {
  for (int i = 0; i < 3000; ++i) {
    if (stdfs::exists(folder)) {
      for (const auto& entry : stdfs::recursive_directory_iterator(folder)) {
        if (absl::EndsWith(entry.path().filename().string(), name)) {
          return entry.path();
        }
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << "no " << name << " in " << folder;
  return "";
}

TEST(StartupTest, WithoutAGpuItSaysSoInOneLine) {
  if (stdfs::exists("/dev/nvidia0")) GTEST_SKIP() << "there is a GPU";
  ServerOptions options;
  options.model = SourcePath("tests/golden/models/tiny-llama");
  options.flags = {"--device=cuda"};
  const auto server = ServerProcess::Launch(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->Wait(std::chrono::seconds(60)), 75);
  const std::string log = (*server)->Log();
  EXPECT_TRUE(absl::StrContains(log, "--device=cuda: ")) << log;
  // With auto it serves, and has no word for a GPU that isn't there.
  options.flags = {"--device=auto"};
  const auto on_cpu = ServerProcess::Start(options);
  ASSERT_TRUE(on_cpu.ok()) << on_cpu.status();
  EXPECT_FALSE(absl::StrContains((*on_cpu)->Log(), "GPU"));
  EXPECT_EQ((*on_cpu)->Terminate(), 0);
}

TEST(StartupTest, PackedWeightsAreKeptAndCheckedAndReplaced) {
  const TemporaryFolder folder;
  const std::string cache = folder.path() + "/cache";
  ServerOptions options;
  options.flags = {"--weights-cache=" + cache};
  const auto answer = [&](const std::string& logged) {
    const auto server = ServerProcess::Start(options);
    EXPECT_TRUE(server.ok()) << server.status();
    if (!server.ok()) return std::string();
    EXPECT_TRUE(absl::StrContains((*server)->Log(), logged))
        << (*server)->Log();
    const std::string bits =
        Bits(Ask(**server, GreedyRequest(kPrompt, "", 16)));
    FileBelow(cache, ".packed");
    EXPECT_EQ((*server)->Terminate(), 0);
    return bits;
  };
  const std::string packed = answer("");
  EXPECT_EQ(answer("packed weights from"), packed);
  Damage(FileBelow(cache, ".packed"));
  EXPECT_EQ(answer("is not used: DATA_LOSS"), packed);
  const std::string path = FileBelow(cache, ".packed");
  stdfs::resize_file(path, stdfs::file_size(path) / 2);
  EXPECT_EQ(answer("is not used: DATA_LOSS"), packed);
}

TEST(StartupTest, AFolderThatCannotBeWrittenIsOneLogLine) {
  ServerOptions options;
  options.flags = {"--weights-cache=/proc/nowhere/cache"};
  const auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(Ask(**server, GreedyRequest(kPrompt, "", 4)).status.ok());
  for (int i = 0; i < 1000; ++i) {
    if (absl::StrContains((*server)->Log(), "are not kept in")) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(absl::StrContains((*server)->Log(), "are not kept in"));
}

TEST(StartupTest, AnAdapterDamagedAfterTheStartFailsItsRequestsOnly) {
  const TemporaryFolder folder;
  ServerOptions options;
  options.adapter_dir = folder.path();
  const auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto files = [&](uint64_t seed) {
    return RandomAdapterFor(GetModel(**server), {".q_proj", ".v_proj"},
                            {.rank = 8, .alpha = 256, .seed = seed});
  };
  std::string digest;
  ASSERT_TRUE(Upload(**server, "bad", files(1), &digest).ok());
  ASSERT_TRUE(Upload(**server, "good", files(2)).ok());
  Damage(FileBelow(folder.path(), digest.substr(7)));
  std::vector<v1::GenerateRequest> requests;
  for (int i = 0; i < 8; ++i) {
    requests.push_back(GreedyRequest(kPrompt, i % 2 == 0 ? "bad" : "good", 16));
  }
  const auto answers = AskTogether(**server, requests, 8, Streaming::kNo);
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].status.error_code(),
              i % 2 == 0 ? grpc::StatusCode::DATA_LOSS : grpc::StatusCode::OK)
        << answers[i].status.error_message();
  }
  grpc::ClientContext context;
  v1::ListAdaptersResponse listed;
  ASSERT_TRUE((*server)->adapters().ListAdapters(&context, {}, &listed).ok());
  ASSERT_EQ(listed.adapters_size(), 2);
  EXPECT_EQ(listed.adapters(0).state(), v1::ADAPTER_STATE_QUARANTINED);
  EXPECT_EQ(listed.adapters(1).state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ(listed.adapters(1).target_modules_size(), 2);
  // The same bytes again repair it.
  ASSERT_TRUE(Upload(**server, "bad", files(1)).ok());
  EXPECT_TRUE(Ask(**server, GreedyRequest(kPrompt, "bad", 4)).status.ok());
}

// Base weights of each type: it says so, and adapters in one batch answer as
// they do alone.
TEST(StartupTest, TypesOfWeightsServeMixedBatches) {
  for (const std::string type : {"int8", "int4"}) {
    SCOPED_TRACE(type);
    ServerOptions options;
    options.flags = {"--weights=" + type};
    const auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    const v1::GetModelResponse model = GetModel(**server);
    EXPECT_TRUE(absl::StrContains(model.device(), type + " weights"))
        << model.device();
    std::vector<v1::GenerateRequest> requests = {
        GreedyRequest(kPrompt, "", 24)};
    for (const std::string name : {"one", "two", "three"}) {
      const auto files =
          RandomAdapterFor(model, {".q_proj", ".v_proj", ".down_proj"},
                           {.rank = 8, .alpha = 256, .seed = requests.size()});
      ASSERT_TRUE(Upload(**server, name, files).ok());
      requests.push_back(GreedyRequest(kPrompt, name, 24));
    }
    std::vector<std::string> alone;
    for (const auto& request : requests) {
      alone.push_back(Bits(Ask(**server, request)));
    }
    EXPECT_NE(alone[0], alone[1]);
    const auto together = AskTogether(
        **server, requests, static_cast<int>(requests.size()), Streaming::kNo);
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_TRUE(together[i].status.ok());
      EXPECT_EQ(Bits(together[i]), alone[i]) << i;
    }
  }
}

}  // namespace
}  // namespace descant::e2e
