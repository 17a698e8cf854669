// The `descant` binary against the real server.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/cli/exit_code.h"
#include "tests/e2e/cli_run.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;

class CliTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto server = ServerProcess::Start({});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = server->release();
  }
  static void TearDownTestSuite() { delete server_; }
  void SetUp() override { ASSERT_NE(server_, nullptr); }

  // Runs `descant` with `input` on its standard input.
  CliRun Run(const std::vector<std::string>& arguments,
             const std::string& input = "") {
    return RunCli(arguments, {"DESCANT_TARGET=" + server_->target()},
                  folder_.path(), input);
  }

  // A folder as PEFT saves it.
  std::string SaveAdapter(uint64_t seed) {
    const AdapterFiles files =
        RandomAdapterFor(GetModel(*server_), {".q_proj", ".v_proj"},
                         {.rank = 4, .alpha = 64, .seed = seed});
    const std::string folder = absl::StrCat(folder_.path(), "/adapter", seed);
    std::filesystem::create_directory(folder);
    std::ofstream(folder + "/adapter_config.json") << files.config_json;
    std::ofstream(folder + "/adapter_model.safetensors", std::ios::binary)
        << files.safetensors_bytes;
    return folder;
  }

  static ServerProcess* server_;
  const TemporaryFolder folder_;
};

ServerProcess* CliTest::server_ = nullptr;

TEST_F(CliTest, GenerateJson) {
  const CliRun run = Run({"generate", "--prompt-ids", "504,3575,282,4649,314",
                          "--max-tokens", "8", "--temperature", "0",
                          "--top-logprobs", "5", "--ignore-eos", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["token_ids"].size(), 8u);
  ASSERT_EQ(json["top_logprobs"].size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    ASSERT_EQ(json["top_logprobs"][i].size(), 5u);
    ASSERT_EQ(json["top_logprobs"][i][0].size(), 2u);
    // Greedy: the likeliest is the one chosen.
    EXPECT_EQ(json["top_logprobs"][i][0][0], json["token_ids"][i]);
    EXPECT_LE(json["top_logprobs"][i][0][1].get<double>(), 0);
  }
  EXPECT_EQ(json["adapter_digest"], "");
  EXPECT_EQ(json["finish_reason"], "length");
  EXPECT_EQ(json["usage"]["prompt_tokens"], 5);
  EXPECT_EQ(json["usage"]["completion_tokens"], 8);

  const CliRun streamed =
      Run({"generate", "--prompt-ids=504,3575,282,4649,314", "--max-tokens=8",
           "--temperature=0", "--ignore-eos"});
  EXPECT_EQ(streamed.exit_code, 0) << streamed.err;
  EXPECT_EQ(streamed.out, json["text"].get<std::string>() + "\n");
}

TEST_F(CliTest, AdaptersFromUploadToDelete) {
  const std::string folder = SaveAdapter(11);
  const CliRun upload = Run({"adapters", "upload", "mine", folder, "--json"});
  ASSERT_EQ(upload.exit_code, 0) << upload.err;
  const Json adapter = Json::parse(upload.out);
  EXPECT_EQ(adapter["name"], "mine");
  EXPECT_EQ(adapter["max_rank"], 4);
  EXPECT_EQ(adapter["created"], true);
  const std::string digest = adapter["digest"];

  EXPECT_EQ(Run({"adapters", "upload", "mine", SaveAdapter(12)}).exit_code,
            cli::kExitRefused);
  const CliRun list = Run({"adapters", "list"});
  EXPECT_TRUE(absl::StrContains(list.out, "mine")) << list.out;
  EXPECT_TRUE(absl::StrContains(list.out, digest.substr(0, 19))) << list.out;
  const CliRun get = Run({"--json", "adapters", "get", "mine"});
  EXPECT_EQ(Json::parse(get.out)["digest"], digest);

  const CliRun answer = Run({"generate", "--adapter", "mine", "--prompt",
                             "Hello", "--max-tokens", "4", "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.err;
  EXPECT_EQ(Json::parse(answer.out)["adapter_digest"], digest);

  EXPECT_EQ(Run({"adapters", "delete", "mine"}).exit_code, 0);
  const CliRun gone = Run({"generate", "--adapter", "mine", "--prompt", "x"});
  EXPECT_EQ(gone.exit_code, cli::kExitNotFound);
  EXPECT_TRUE(absl::StrContains(gone.err, "NOT_FOUND (")) << gone.err;
  EXPECT_EQ(gone.err.find('\n'), gone.err.size() - 1) << gone.err;
}

TEST_F(CliTest, VersionsThereAndBack) {
  const std::string one = SaveAdapter(21);
  const std::string two = SaveAdapter(22);
  const CliRun checked =
      Run({"adapters", "upload", "v", one, "--validate-only", "--json"});
  ASSERT_EQ(checked.exit_code, 0) << checked.err;
  EXPECT_EQ(Json::parse(checked.out)["created"], false);
  EXPECT_EQ(Run({"adapters", "get", "v"}).exit_code, cli::kExitNotFound);

  const CliRun first = Run({"adapters", "upload", "--label", "stage=test", "v",
                            one, "--expected-version", "0", "--json"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const Json old = Json::parse(first.out);
  EXPECT_EQ(old["labels"]["stage"], "test");
  const std::string version = old["version"].dump();
  ASSERT_EQ(Run({"adapters", "upload", "v", two, "--expected-version", version})
                .exit_code,
            0);
  EXPECT_EQ(Run({"adapters", "upload", "v", one, "--expected-version", version})
                .exit_code,
            cli::kExitRetry);
  const CliRun versions = Run({"adapters", "versions", "v", "--json"});
  ASSERT_EQ(versions.exit_code, 0) << versions.err;
  EXPECT_EQ(Json::parse(versions.out).size(), 2u);

  // The older one, as it was sent; and nothing is written over.
  const std::string folder = folder_.path() + "/back";
  const std::string pinned =
      absl::StrCat("v@", old["digest"].get<std::string>());
  const CliRun download = Run({"adapters", "download", pinned, folder});
  ASSERT_EQ(download.exit_code, 0) << download.err;
  for (const char* file :
       {"adapter_config.json", "adapter_model.safetensors"}) {
    EXPECT_TRUE(ReadAll(absl::StrCat(folder, "/", file)) ==
                ReadAll(absl::StrCat(one, "/", file)))
        << file;
  }
  EXPECT_EQ(Run({"adapters", "download", "v", folder}).exit_code,
            cli::kExitRefused);
  EXPECT_EQ(Run({"adapters", "download", "v", folder, "--force"}).exit_code, 0);

  const CliRun rollback = Run({"adapters", "rollback", "v", "--json"});
  ASSERT_EQ(rollback.exit_code, 0) << rollback.err;
  EXPECT_EQ(Json::parse(rollback.out)["digest"], old["digest"]);
  EXPECT_EQ(Run({"adapters", "delete", "v"}).exit_code, 0);
  EXPECT_EQ(Run({"adapters", "upload", "v", one, "--label", "none"}).exit_code,
            cli::kExitUsage);
}

TEST_F(CliTest, TokenizeThereAndBack) {
  const std::string text = "Grüße, 世界! \n def f(x):";
  const CliRun run = Run({"tokenize", text, "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = Json::parse(run.out);
  std::string ids;
  for (const Json& id : json["token_ids"]) {
    absl::StrAppend(&ids, ids.empty() ? "" : ",", id.get<int>());
  }
  const CliRun back = Run({"tokenize", "--ids", ids, "--json"});
  ASSERT_EQ(back.exit_code, 0) << back.err;
  EXPECT_EQ(Json::parse(back.out)["text"], text);
}

TEST_F(CliTest, ModelsAndChat) {
  const CliRun models = Run({"models", "--json"});
  ASSERT_EQ(models.exit_code, 0) << models.err;
  EXPECT_EQ(Json::parse(models.out)["vocab_size"], 49152);
  const CliRun chat =
      Run({"chat", "--temperature", "0", "--max-tokens", "12"},
          "What is the capital of France?\nAnd of Italy?\n/exit\n");
  EXPECT_EQ(chat.exit_code, 0) << chat.err;
  EXPECT_TRUE(absl::StrContains(chat.out, "Paris")) << chat.out;
}

TEST_F(CliTest, ErrorsAreOneLineAndAnExitCode) {
  const CliRun field =
      Run({"generate", "--prompt", "x", "--temperature", "-1"});
  EXPECT_EQ(field.exit_code, cli::kExitRefused);
  EXPECT_TRUE(absl::StrContains(field.err, "INVALID_ARGUMENT (")) << field.err;
  EXPECT_TRUE(absl::StrContains(field.err, "temperature")) << field.err;
  EXPECT_EQ(Run({"generate", "--prompt", std::string("\xff\xfe")}).exit_code,
            cli::kExitRefused);
  EXPECT_EQ(Run({"generate"}).exit_code, cli::kExitUsage);
  EXPECT_EQ(Run({"sing"}).exit_code, cli::kExitUsage);
  EXPECT_EQ(
      Run({"adapters", "upload", "x", folder_.path() + "/none"}).exit_code,
      cli::kExitNotFound);
  EXPECT_EQ(Run({"--target", "127.0.0.1:1", "models"}).exit_code,
            cli::kExitRetry);
}

TEST_F(CliTest, BenchChecksAndMeasures) {
  const CliRun run = Run({"bench", "--compare", "W-base,W-mixed", "--requests",
                          "4", "--seed", "7", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.out << run.err;
  const Json json = Json::parse(run.out);
  EXPECT_EQ(json["valid"], true);
  EXPECT_EQ(json["seed"], 7);
  EXPECT_GT(json["output_tokens_per_s"].get<double>(), 0);
  EXPECT_GT(json["ttft_ms"]["p99"].get<double>(), 0);
  EXPECT_GT(json["itl_ms"]["p50"].get<double>(), 0);
  ASSERT_EQ(json["legs"].size(), 2u);
  EXPECT_EQ(json["legs"][1]["adapters"], 4);
  EXPECT_GT(json["legs"][1]["ratio"]["median"].get<double>(), 0);
  const CliRun list = Run({"adapters", "list", "--json"});
  EXPECT_FALSE(absl::StrContains(list.out, "bench-")) << "left behind";
}

TEST_F(CliTest, BenchServesItself) {
  const CliRun run =
      Run({"bench", "--workload", "W-single", "--requests", "1", "--serve",
           DemoModelPath(), "--server-flag=--token-budget=128"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  EXPECT_TRUE(absl::StrContains(run.out, "W-single/adapter")) << run.out;
  const CliRun bad = Run({"bench", "--workload", "W-single", "--serve",
                          folder_.path() + "/no.gguf"});
  EXPECT_EQ(bad.exit_code, cli::kExitInternal) << bad.err;
}

}  // namespace
}  // namespace descant::e2e
