// descant-server --export-merged beside a server that uses the store: what it
// says, what it leaves, and its exit codes.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "server/cli/child_process.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr auto kLong = std::chrono::seconds(60);

struct Outcome {
  int code = -1;
  std::string output;
};

Outcome Export(const std::vector<std::string>& flags) {
  const TemporaryFolder folder;
  const std::string log = folder.path() + "/output";
  std::vector<std::string> command = {BinaryPath("descant-server")};
  command.insert(command.end(), flags.begin(), flags.end());
  auto child = cli::ChildProcess::Start(command, {}, log);
  EXPECT_TRUE(child.ok()) << child.status();
  Outcome outcome;
  outcome.code = child->Wait(kLong).value_or(-1);
  std::ifstream file(log);
  outcome.output.assign(std::istreambuf_iterator<char>(file), {});
  return outcome;
}

// A tiny model's server with the adapter "mine".
class ExportTest : public testing::Test {
 protected:
  void SetUp() override {
    model_ = SourcePath("tests/golden/models/tiny-llama");
    ServerOptions options;
    options.model = model_;
    options.adapter_dir = folder_.path() + "/store";
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    const AdapterFiles files =
        RandomAdapterFor(GetModel(*server_), {".q_proj", ".down_proj"}, {});
    const grpc::Status uploaded = Upload(*server_, "mine", files, &digest_);
    ASSERT_TRUE(uploaded.ok()) << uploaded.error_message();
    out_ = folder_.path() + "/out";
  }

  // With the flags that every export has, unless `more` says else.
  Outcome ExportHere(const std::string& name,
                     const std::vector<std::string>& more = {}) {
    std::vector<std::string> flags = {
        "--model=" + model_, "--adapter-dir=" + folder_.path() + "/store",
        "--export-merged=" + name, "--out=" + out_};
    flags.insert(flags.end(), more.begin(), more.end());
    return Export(flags);
  }
  void ExpectFails(const Outcome& outcome, int code, const char* text) {
    EXPECT_EQ(outcome.code, code) << outcome.output;
    EXPECT_TRUE(absl::StrContains(outcome.output, text)) << outcome.output;
  }

  const TemporaryFolder folder_;
  std::string model_, out_, digest_;
  std::unique_ptr<ServerProcess> server_;
};

TEST_F(ExportTest, BesideAServerThatThenServesIt) {
  const Outcome outcome = ExportHere("mine@" + digest_);
  ASSERT_EQ(outcome.code, 0) << outcome.output;
  EXPECT_TRUE(absl::StrContains(outcome.output, "4 of them merged"))
      << outcome.output;
  ServerOptions options;
  options.model = out_;
  auto merged = ServerProcess::Start(options);
  ASSERT_TRUE(merged.ok()) << merged.status();
  // The merged model's base and the other's adapter: near, and not the base.
  const std::vector<int64_t> prompt = {30, 40, 50, 60};
  const Answer ours = Ask(**merged, GreedyRequest(prompt, "", 1));
  const Answer theirs = Ask(*server_, GreedyRequest(prompt, "mine", 1));
  ASSERT_TRUE(ours.status.ok()) << ours.status.error_message();
  ASSERT_TRUE(theirs.status.ok()) << theirs.status.error_message();
  EXPECT_EQ(ours.tokens, theirs.tokens);
}

TEST_F(ExportTest, WhatIsWrongIsOneLineAndExitCode78) {
  ExpectFails(ExportHere("nobody"), 78, "no adapter of that name");
  ExpectFails(ExportHere("acme/mine"), 78, "no adapter of that name");
  ExpectFails(ExportHere("mine@sha256:" + std::string(64, '0')), 78,
              "no adapter of that name");
  ExpectFails(ExportHere("a b"), 78, "--export-merged");
  ExpectFails(Export({"--model=" + model_, "--export-merged=mine"}), 78,
              "needs --out");
  ExpectFails(Export({"--model=" + model_, "--out=" + out_}), 78,
              "needs --export-merged");
  EXPECT_FALSE(std::filesystem::exists(out_));
  const std::string other = SourcePath("tests/golden/models/tiny-qwen2");
  ExpectFails(
      Export({"--model=" + other, "--adapter-dir=" + folder_.path() + "/store",
              "--export-merged=mine", "--out=" + out_}),
      78, "another base model");
  std::filesystem::create_directory(out_);
  std::ofstream(out_ + "/kept") << "something";
  ExpectFails(ExportHere("mine"), 78, "not empty");
  EXPECT_TRUE(std::filesystem::exists(out_ + "/kept"));
}

TEST_F(ExportTest, DamageIsExitCode70AndLeavesNothing) {
  const std::filesystem::path blobs = folder_.path() + "/store/blobs";
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(blobs)) {
    if (!entry.is_regular_file()) continue;
    std::filesystem::resize_file(entry.path(),
                                 std::filesystem::file_size(entry) - 1);
  }
  ExpectFails(ExportHere("mine"), 70, "damaged");
  EXPECT_FALSE(std::filesystem::exists(out_));
}

}  // namespace
}  // namespace descant::e2e
