// `descant run` against the real server.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/cli/child_process.h"
#include "server/cli/exit_code.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;

constexpr int kAdapters = 4;
constexpr auto kRunTimeout = std::chrono::seconds(280);

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Json> Records(const std::string& text) {
  std::vector<Json> records;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    records.push_back(Json::parse(line, nullptr, false));
    EXPECT_TRUE(records.back().is_object()) << line;
  }
  return records;
}

// By line; fails where one is there twice.
std::map<int, Json> ByLine(const std::vector<Json>& records) {
  std::map<int, Json> by_line;
  for (const Json& record : records) {
    EXPECT_TRUE(by_line.emplace(record.at("line"), record).second)
        << "twice: " << record.dump();
  }
  return by_line;
}

std::string AdapterName(int i) { return absl::StrCat("run-", i); }

void UploadAdapters(ServerProcess& server) {
  const v1::GetModelResponse model = GetModel(server);
  for (int i = 0; i < kAdapters; ++i) {
    ASSERT_TRUE(Upload(server, AdapterName(i),
                       RandomAdapterFor(model, {".q_proj", ".v_proj"},
                                        {.rank = 4 << i,
                                         .alpha = static_cast<double>(64 << i),
                                         .seed = static_cast<uint64_t>(i)}))
                    .ok());
  }
}

class RunTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto server = ServerProcess::Start({});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = server->release();
    UploadAdapters(*server_);
  }
  static void TearDownTestSuite() { delete server_; }
  void SetUp() override { ASSERT_NE(server_, nullptr); }

  std::string input() const { return folder_.path() + "/prompts.jsonl"; }
  std::string output() const { return folder_.path() + "/answers.jsonl"; }
  std::string log() const { return ReadAll(folder_.path() + "/run.err"); }

  // Starts `descant run INPUT --out OUTPUT` and more.
  cli::ChildProcess Start(const std::vector<std::string>& more,
                          const std::string& target = server_->target()) {
    std::vector<std::string> argv = {
        "/bin/sh",
        "-c",
        absl::StrCat("exec \"$0\" \"$@\" 2>", folder_.path(), "/run.err"),
        BinaryPath("descant"),
        "run",
        input(),
        "--out",
        output()};
    argv.insert(argv.end(), more.begin(), more.end());
    auto child = cli::ChildProcess::Start(argv, {"DESCANT_TARGET=" + target},
                                          folder_.path() + "/run.out");
    EXPECT_TRUE(child.ok()) << child.status();
    return *std::move(child);
  }

  int Run(const std::vector<std::string>& more = {},
          const std::string& target = server_->target()) {
    return Start(more, target).Wait(kRunTimeout).value_or(-1);
  }

  // Lines of the output so far.
  size_t Written() const {
    const std::string text = ReadAll(output());
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  void WaitForLines(size_t lines) const {
    const auto end = std::chrono::steady_clock::now() + kRunTimeout;
    while (Written() < lines && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  static ServerProcess* server_;
  const TemporaryFolder folder_;
};

ServerProcess* RunTest::server_ = nullptr;

// Greedy requests on the adapters in turn, every fifth on the base model; the
// same as lines, in all the ways a line may say it.
struct Batch {
  std::vector<v1::GenerateRequest> requests;
  std::string lines;
};

Batch MixedBatch(int count, int tokens) {
  Batch batch;
  for (int i = 0; i < count; ++i) {
    std::vector<int64_t> prompt;
    for (int k = 0; k < 8 + i % 40; ++k) {
      prompt.push_back((i * 7919 + k * 104729) % 49152);
    }
    const std::string adapter =
        i % 5 == 4 ? "" : AdapterName(i % 5 % kAdapters);
    batch.requests.push_back(GreedyRequest(prompt, adapter, tokens + i % 13));
    Json line = {{"token_ids", prompt}};
    if (!adapter.empty()) line["adapter_id"] = adapter;
    if (i % 2 == 0) {
      line["temperature"] = 0;
      line["max_tokens"] = tokens + i % 13;
      line["ignore_eos"] = true;
    } else {
      line["sampling"] = {{"temperature", 0}};
      line["stopping"] = {{"max_tokens", tokens + i % 13},
                          {"ignore_eos", true}};
      line["id"] = absl::StrCat("q", i);
    }
    absl::StrAppend(&batch.lines, line.dump(), "\n");
  }
  return batch;
}

void ExpectAnswers(ServerProcess& server, const Batch& batch,
                   const std::map<int, Json>& by_line) {
  ASSERT_EQ(by_line.size(), batch.requests.size());
  const std::vector<Answer> expected =
      AskTogether(server, batch.requests, 8, Streaming::kNo);
  for (size_t i = 0; i < expected.size(); ++i) {
    const Json& record = by_line.at(static_cast<int>(i) + 1);
    ASSERT_TRUE(record.contains("token_ids")) << record.dump();
    EXPECT_EQ(record["token_ids"].get<std::vector<int32_t>>(),
              expected[i].tokens)
        << "line " << i + 1;
    EXPECT_EQ(record["adapter_digest"], expected[i].adapter_digest);
    EXPECT_EQ(record["text"], expected[i].text);
    EXPECT_EQ(record.value("id", ""), i % 2 == 1 ? absl::StrCat("q", i) : "");
  }
}

TEST_F(RunTest, KilledAndResumedEveryLineOnce) {
  const Batch batch = MixedBatch(150, 24);
  std::ofstream(input()) << batch.lines;
  size_t before = 0;
  // Killed twice, and once more with its last record torn.
  for (const size_t lines : {15, 50, 90}) {
    cli::ChildProcess run = Start({"--concurrency", "12"});
    WaitForLines(lines);
    run.Signal(SIGKILL);
    ASSERT_EQ(run.Wait(kRunTimeout), 128 + SIGKILL) << log();
    before = Written();
    ASSERT_GE(before, lines);
    ASSERT_LT(before, 150u);
  }
  std::filesystem::resize_file(output(),
                               std::filesystem::file_size(output()) - 9);
  ASSERT_EQ(Run(), cli::kExitOk) << log();
  EXPECT_TRUE(absl::StrContains(log(), absl::StrCat(before - 1, " were there")))
      << log();
  const auto by_line = ByLine(Records(ReadAll(output())));
  ExpectAnswers(*server_, batch, by_line);

  // Nothing is left to do; the order is what was asked for.
  ASSERT_EQ(Run({"--in-order"}), cli::kExitOk) << log();
  const auto records = Records(ReadAll(output()));
  ASSERT_EQ(records.size(), 150u);
  for (size_t i = 0; i < records.size(); ++i) {
    EXPECT_EQ(records[i], by_line.at(static_cast<int>(i) + 1));
  }
}

TEST_F(RunTest, AnotherInputIsRefused) {
  const Batch batch = MixedBatch(4, 2);
  std::ofstream(input()) << batch.lines;
  ASSERT_EQ(Run(), cli::kExitOk) << log();
  const std::string answers = ReadAll(output());
  // Other options, a line changed, a line gone.
  EXPECT_EQ(Run({"--top-k", "3"}), cli::kExitRefused) << log();
  std::ofstream(input()) << MixedBatch(4, 3).lines;
  EXPECT_EQ(Run(), cli::kExitRefused);
  EXPECT_TRUE(absl::StrContains(log(), "line 1 was answered for another"))
      << log();
  std::ofstream(input()) << MixedBatch(3, 2).lines;
  EXPECT_EQ(Run(), cli::kExitRefused);
  EXPECT_TRUE(absl::StrContains(log(), "has only 3")) << log();
  EXPECT_EQ(ReadAll(output()), answers);
  // More lines at the end are more to do.
  std::ofstream(input()) << MixedBatch(6, 2).lines;
  EXPECT_EQ(Run(), cli::kExitOk) << log();
  EXPECT_EQ(Records(ReadAll(output())).size(), 6u);
}

TEST_F(RunTest, BadLinesAreReportedAndRetried) {
  std::ofstream(input())
      << R"({"text": "Hello", "max_tokens": 2})"
      << "\n"
      << "not json\n\n"
      << R"({"id": "late", "text": "Hello", "adapter": "late"})"
      << "\n"
      << R"({"text": "Hello", "temperature": -1})"
      << "\n"
      << R"({"text": "Hello", "colour": "red"})"
      << "\n";
  EXPECT_EQ(Run({"--strict"}), cli::kExitRefused);
  EXPECT_TRUE(absl::StrContains(log(), "prompts.jsonl:2: no JSON")) << log();
  EXPECT_EQ(ReadAll(output()), "");

  EXPECT_EQ(Run({"--max-tokens", "3", "--json"}), cli::kExitRefused);
  const Json summary = Json::parse(ReadAll(folder_.path() + "/run.out"));
  EXPECT_EQ(summary["answered"], 1);
  EXPECT_EQ(summary["failed"], 4);
  EXPECT_EQ(summary["complete"], true);
  auto by_line = ByLine(Records(ReadAll(output())));
  ASSERT_EQ(by_line.size(), 5u);
  EXPECT_EQ(by_line[1]["usage"]["completion_tokens"], 2);
  EXPECT_EQ(by_line[2]["error"]["reason"], "BAD_LINE");
  EXPECT_EQ(by_line[4]["error"]["code"], "NOT_FOUND");
  EXPECT_EQ(by_line[4]["error"]["reason"], "ADAPTER_NOT_FOUND");
  EXPECT_EQ(by_line[4]["id"], "late");
  EXPECT_EQ(by_line[5]["error"]["code"], "INVALID_ARGUMENT");
  EXPECT_TRUE(absl::StrContains(
      by_line[6]["error"]["message"].get<std::string>(), "colour"));

  ASSERT_TRUE(Upload(*server_, "late",
                     RandomAdapterFor(GetModel(*server_), {".q_proj"}, {}))
                  .ok());
  // Without being told to, a failed line stays what it is.
  EXPECT_EQ(Run({"--max-tokens", "3"}), cli::kExitRefused) << log();
  EXPECT_EQ(ByLine(Records(ReadAll(output()))), by_line);
  EXPECT_EQ(Run({"--max-tokens", "3", "--retry-failed"}), cli::kExitRefused);
  by_line = ByLine(Records(ReadAll(output())));
  ASSERT_EQ(by_line.size(), 5u);
  EXPECT_EQ(by_line[4]["usage"]["completion_tokens"], 3);
  EXPECT_EQ(by_line[2]["error"]["reason"], "BAD_LINE");
}

TEST_F(RunTest, ThroughAPipe) {
  const std::string command = absl::StrCat(
      "(printf '{\"text\": \"One\"}\\n'; sleep 0.5; "
      "printf '{\"text\": \"Two\"}') | ",
      BinaryPath("descant"), " run - --out - --max-tokens 2 >", output(), " 2>",
      folder_.path(), "/run.err");
  auto child = cli::ChildProcess::Start({"/bin/sh", "-c", command},
                                        {"DESCANT_TARGET=" + server_->target()},
                                        folder_.path() + "/run.out");
  ASSERT_TRUE(child.ok());
  ASSERT_EQ(child->Wait(kRunTimeout), cli::kExitOk) << log();
  const auto by_line = ByLine(Records(ReadAll(output())));
  ASSERT_EQ(by_line.size(), 2u);
  EXPECT_EQ(by_line.at(2)["usage"]["completion_tokens"], 2);
}

TEST_F(RunTest, InterruptFinishesWhatIsInFlight) {
  const Batch batch = MixedBatch(80, 32);
  std::ofstream(input()) << batch.lines;
  cli::ChildProcess run = Start({"--concurrency", "4"});
  WaitForLines(5);
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait(kRunTimeout), cli::kExitRetry) << log();
  EXPECT_TRUE(absl::StrContains(log(), "goes on from here")) << log();
  const size_t written = Written();
  EXPECT_GE(written, 5u);
  EXPECT_LT(written, 80u);
  EXPECT_EQ(Records(ReadAll(output())).size(), written);
  ASSERT_EQ(Run(), cli::kExitOk) << log();
  ExpectAnswers(*server_, batch, ByLine(Records(ReadAll(output()))));
}

TEST_F(RunTest, FilesThatCannotBe) {
  EXPECT_EQ(Run(), cli::kExitNotFound);
  std::ofstream(input()) << "{\"text\": \"x\"}\n";
  std::ofstream(output()) << "precious";
  EXPECT_EQ(Run(), cli::kExitRefused);
  EXPECT_EQ(ReadAll(output()), "precious");
  std::filesystem::remove(output());
  std::filesystem::create_hard_link(input(), output());
  EXPECT_EQ(Run(), cli::kExitRefused);
  EXPECT_TRUE(absl::StrContains(log(), "same file")) << log();
  std::filesystem::remove(output());
  EXPECT_EQ(Run({"--patience", "0"}, "127.0.0.1:1"), cli::kExitRetry);
}

// A server with room for two waiting requests, which is killed, and comes back
// after a while at the same place.
TEST_F(RunTest, AServerThatIsFullAndDies) {
  const auto ports = cli::FreeLoopbackPorts(3);
  ASSERT_TRUE(ports.ok());
  const auto address = [&](int i) {
    return absl::StrCat("127.0.0.1:", (*ports)[i]);
  };
  const auto serve = [&] {
    auto child = cli::ChildProcess::Start(
        {BinaryPath("descant-server"), "--model=" + DemoModelPath(),
         "--listen=" + address(0), "--admin-listen=" + address(1),
         "--metrics-listen=" + address(2), "--max-running=4", "--max-waiting=2",
         "--adapter-dir=" + folder_.path() + "/adapters"},
        {}, folder_.path() + "/server.log");
    EXPECT_TRUE(child.ok());
    return *std::move(child);
  };
  Batch batch = MixedBatch(60, 8);
  // The base model's lines: this server has no adapters.
  batch.lines.clear();
  for (v1::GenerateRequest& request : batch.requests) {
    request.clear_adapter_id();
    absl::StrAppend(&batch.lines,
                    Json{{"token_ids", std::vector<int64_t>(
                                           request.token_ids().ids().begin(),
                                           request.token_ids().ids().end())},
                         {"temperature", 0},
                         {"ignore_eos", true},
                         {"max_tokens", request.stopping().max_tokens()}}
                        .dump(),
                    "\n");
  }
  std::ofstream(input()) << batch.lines;
  // The client is first, and waits for the server.
  cli::ChildProcess run =
      Start({"--concurrency", "40", "--patience", "120"}, address(0));
  {
    cli::ChildProcess server = serve();
    WaitForLines(20);
    server.Signal(SIGKILL);
    ASSERT_TRUE(server.Wait(kRunTimeout).has_value());
  }
  ASSERT_FALSE(run.Poll().has_value()) << log();
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  cli::ChildProcess server = serve();
  ASSERT_EQ(run.Wait(kRunTimeout), cli::kExitOk) << log();
  const auto by_line = ByLine(Records(ReadAll(output())));
  ASSERT_EQ(by_line.size(), 60u);
  const std::vector<Answer> expected =
      AskTogether(*server_, batch.requests, 8, Streaming::kNo);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(by_line.at(static_cast<int>(i) + 1)
                  .at("token_ids")
                  .get<std::vector<int32_t>>(),
              expected[i].tokens)
        << "line " << i + 1;
  }
}

}  // namespace
}  // namespace descant::e2e
