// Hot merge, as operators and clients of the real server see it.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/model/merged_weights.h"
#include "server/cli/exit_code.h"
#include "tests/e2e/cli_run.h"
#include "tests/e2e/client.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;

constexpr auto kPatience = std::chrono::seconds(60);
constexpr auto kPollInterval = std::chrono::milliseconds(50);
const std::vector<int64_t> kPrompt = {504, 3575, 282, 4649, 314};
constexpr const char* kPirateTexts[] = {
    "Formal: Yes, my crew is looking for my sword on the island.\nPirate:",
    "Formal: Stop, the woman is looking for the money in the harbour.\n"
    "Pirate:",
    "Formal: Well, the woman is drinking the treasure in the harbour.\n"
    "Pirate:"};

bool WaitUntil(const std::function<bool()>& done) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(kPollInterval);
  }
  return true;
}

std::unique_ptr<ServerProcess> StartWith(std::vector<std::string> flags) {
  ServerOptions options;
  options.flags = std::move(flags);
  auto server = ServerProcess::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

std::string UploadDemo(ServerProcess& server, const std::string& name) {
  const std::string folder = SourcePath("deploy/demo/adapters/" + name);
  std::string digest;
  const grpc::Status status =
      Upload(server, name,
             {ReadAll(folder + "/adapter_config.json"),
              ReadAll(folder + "/adapter_model.safetensors")},
             &digest);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return digest;
}

std::string UploadRandom(ServerProcess& server, const std::string& name,
                         uint64_t seed) {
  std::string digest;
  const grpc::Status status = Upload(
      server, name,
      RandomAdapterFor(GetModel(server), {".q_proj"}, {.seed = seed}), &digest);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return digest;
}

std::vector<int64_t> TokensOf(ServerProcess& server, const std::string& text) {
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.set_text(text);
  v1::TokenizeResponse response;
  EXPECT_TRUE(server.generation().Tokenize(&context, request, &response).ok());
  return {response.token_ids().begin(), response.token_ids().end()};
}

v1::MergeStatus StatusOf(ServerProcess& server, const std::string& digest) {
  grpc::ClientContext context;
  v1::ListMergesResponse merges;
  EXPECT_TRUE(server.admin().ListMerges(&context, {}, &merges).ok());
  for (const v1::MergeStatus& status : merges.adapters()) {
    if (status.digest() == digest) return status;
  }
  return {};
}

// The states that the version came to, oldest first.
std::vector<v1::MergeState> HistoryOf(ServerProcess& server,
                                      const std::string& digest) {
  grpc::ClientContext context;
  v1::ListMergesResponse merges;
  EXPECT_TRUE(server.admin().ListMerges(&context, {}, &merges).ok());
  std::vector<v1::MergeState> states;
  for (const v1::MergeEvent& event : merges.history()) {
    if (event.digest() == digest) states.push_back(event.state());
  }
  return states;
}

double Metric(ServerProcess& server, const std::string& name,
              const std::string& label = "") {
  const auto page = Scrape(server.metrics_port());
  EXPECT_TRUE(page.ok()) << page.status();
  return page.ok() ? Sum(*page, name, label) : -1;
}

// Asks for the adapter alone, which checks and then uses its merged weights.
void AskUntilMerged(ServerProcess& server, const std::string& adapter,
                    const std::string& digest) {
  v1::MergeStatus status;
  EXPECT_TRUE(WaitUntil([&] {
    const Answer answer = Ask(server, GreedyRequest(kPrompt, adapter, 8));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    status = StatusOf(server, digest);
    return status.state() == v1::MERGE_STATE_MERGED ||
           status.state() == v1::MERGE_STATE_REFUSED;
  })) << status.DebugString();
  EXPECT_EQ(status.state(), v1::MERGE_STATE_MERGED) << status.DebugString();
}

// A long answer that is under way while others do things.
class Stream {
 public:
  Stream(ServerProcess& server, const std::string& adapter)
      : thread_([this, &server, adapter] { Run(server, adapter); }) {
    EXPECT_TRUE(WaitUntil([this] { return begun_ || ended_; }));
    EXPECT_FALSE(ended_) << "too short to do anything meanwhile";
  }
  ~Stream() { Join(); }

  // Its end. The adapter's digest, or what went wrong.
  std::string Join() {
    if (thread_.joinable()) thread_.join();
    return result_;
  }

 private:
  static constexpr int kTokens = 160;

  void Run(ServerProcess& server, const std::string& adapter) {
    grpc::ClientContext context;
    v1::GenerateStreamRequest request;
    *request.mutable_request() = GreedyRequest(kPrompt, adapter, kTokens);
    const auto reader = server.generation().GenerateStream(&context, request);
    v1::GenerateStreamResponse response;
    int tokens = 0;
    std::string digest;
    while (reader->Read(&response)) {
      tokens += response.delta().token_ids_size();
      if (!response.adapter_digest().empty())
        digest = response.adapter_digest();
      begun_ = begun_ || tokens > 0;
    }
    const grpc::Status status = reader->Finish();
    result_ = !status.ok()        ? status.error_message()
              : tokens != kTokens ? absl::StrCat(tokens, " tokens")
                                  : digest;
    ended_ = true;
  }

  std::string result_;
  std::atomic<bool> begun_{false};
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

// One server that merges, with memory for one adapter on all modules, and one
// that does not.
class MergeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    merging_ = StartWith({"--hot-merge=auto", "--merge-memory=215MiB"});
    plain_ = StartWith({});
  }
  static void TearDownTestSuite() {
    if (merging_ != nullptr) {
      EXPECT_EQ(merging_->Terminate(), 0) << merging_->Log();
    }
    merging_.reset();
    plain_.reset();
  }
  void SetUp() override {
    ASSERT_NE(merging_, nullptr);
    ASSERT_NE(plain_, nullptr);
  }

  CliRun Merges(ServerProcess& server, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "merges");
    return RunCli(arguments, {"DESCANT_ADMIN_TARGET=" + server.admin_target()},
                  folder_.path());
  }
  // The state afterwards.
  std::string SetMode(const std::string& mode, const std::string& id) {
    const CliRun run = Merges(*merging_, {mode, id, "--json"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return run.exit_code == 0 ? Json::parse(run.out)["state"] : "";
  }

  // The answer's tokens, each scored by unmerged weights after those before it:
  // as likely as the likeliest, within what merging may change.
  void ExpectLikely(const std::vector<int64_t>& prompt,
                    const std::string& adapter, const Answer& answer) {
    v1::GenerateRequest request = GreedyRequest(prompt, adapter, 1);
    request.mutable_token_ids()->mutable_ids()->Add(answer.tokens.begin(),
                                                    answer.tokens.end());
    request.mutable_output()->set_prompt_logprobs(5);
    const Answer scored = Ask(*plain_, request);
    ASSERT_TRUE(scored.status.ok()) << scored.status.error_message();
    ASSERT_EQ(scored.prompt_logprobs.size(),
              prompt.size() + answer.tokens.size());
    for (size_t i = 0; i < answer.tokens.size(); ++i) {
      const v1::TokenLogprobs& token =
          scored.prompt_logprobs[prompt.size() + i];
      ASSERT_EQ(token.token_id(), answer.tokens[i]);
      ASSERT_GT(token.top_size(), 0);
      EXPECT_GE(token.logprob(), token.top(0).logprob() - 2 * kMergeTolerance)
          << "token " << i;
    }
  }

  static std::unique_ptr<ServerProcess> merging_;
  static std::unique_ptr<ServerProcess> plain_;
  const TemporaryFolder folder_;
};

std::unique_ptr<ServerProcess> MergeTest::merging_;
std::unique_ptr<ServerProcess> MergeTest::plain_;

TEST_F(MergeTest, FromPinToForbid) {
  ServerProcess& server = *merging_;
  const std::string digest = UploadDemo(server, "pirate");
  UploadDemo(server, "text-to-sql");
  UploadDemo(*plain_, "pirate");
  EXPECT_EQ(SetMode("forbid", "text-to-sql"), "unmerged");
  const v1::GenerateRequest sql = GreedyRequest(kPrompt, "text-to-sql", 16);
  const std::string sql_alone = Bits(Ask(server, sql));

  // Nobody waits for the build: both answer meanwhile, in mixed batches.
  const std::string state = SetMode("pin", "pirate");
  EXPECT_TRUE(state == "building" || state == "unmerged") << state;
  const CliRun full = Merges(server, {"pin", "text-to-sql"});
  EXPECT_EQ(full.exit_code, cli::kExitRetry);
  EXPECT_TRUE(absl::StrContains(full.err, "MERGE_MEMORY_FULL")) << full.err;
  const std::vector<v1::GenerateRequest> mixed = {
      GreedyRequest(kPrompt, "pirate", 16), sql};
  const auto ask_mixed = [&] {
    const auto answers = AskTogether(server, mixed, 2, Streaming::kYes);
    EXPECT_TRUE(answers[0].status.ok()) << answers[0].status.error_message();
    EXPECT_EQ(Bits(answers[1]), sql_alone) << "a neighbour's merge shows";
  };
  ASSERT_TRUE(WaitUntil([&] {
    ask_mixed();
    return StatusOf(server, digest).state() != v1::MERGE_STATE_BUILDING;
  }));
  AskUntilMerged(server, "pirate", digest);

  const double steps = Metric(server, "descant_merge_steps_total");
  for (const char* text : kPirateTexts) {
    const std::vector<int64_t> prompt = TokensOf(server, text);
    const Answer answer = Ask(server, GreedyRequest(prompt, "pirate", 32));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.adapter_digest, digest);
    ExpectLikely(prompt, "pirate", answer);
  }
  // A step of speculation gives several tokens.
  EXPECT_GE(Metric(server, "descant_merge_steps_total"), steps + 3 * 32 / 4);
  ask_mixed();
  const v1::MergeStatus merged = StatusOf(server, digest);
  EXPECT_EQ(merged.name(), "pirate");
  EXPECT_EQ(merged.mode(), v1::MERGE_MODE_PINNED);
  EXPECT_EQ(merged.builds(), 1u);
  EXPECT_GT(merged.check().outputs(), 0u);
  EXPECT_LE(merged.check().largest_difference(), kMergeTolerance);
  const std::string labels =
      absl::StrCat("adapter=\"pirate\",digest=\"", digest, "\"");
  EXPECT_EQ(Metric(server, "descant_merged_adapter_info", labels), 1);
  EXPECT_EQ(Metric(server, "descant_merge_builds_total", "outcome=\"ok\""), 1);
  EXPECT_EQ(Metric(server, "descant_merge_memory_bytes"),
            static_cast<double>(merged.merged_bytes()));
  EXPECT_EQ(Metric(server, "descant_merge_memory_capacity_bytes"), 215 << 20);
  EXPECT_GT(merged.merged_bytes(), 0u);
  EXPECT_GT(Metric(server, "descant_merge_switches_total"), 0);
  const CliRun list = Merges(server, {});
  EXPECT_TRUE(absl::StrContains(list.out, "pirate")) << list.out;
  EXPECT_TRUE(absl::StrContains(list.out, "pinned")) << list.out;

  EXPECT_EQ(SetMode("forbid", "pirate"), "unmerged");
  EXPECT_EQ(Metric(server, "descant_merge_memory_bytes"), 0);
  EXPECT_EQ(Metric(server, "descant_merged_adapter_info"), 0);
  EXPECT_EQ(HistoryOf(server, digest),
            (std::vector{v1::MERGE_STATE_BUILDING, v1::MERGE_STATE_CHECKING,
                         v1::MERGE_STATE_MERGED, v1::MERGE_STATE_UNMERGED}));
  const CliRun history = Merges(server, {"--history"});
  EXPECT_EQ(history.exit_code, 0) << history.err;
  EXPECT_TRUE(absl::StrContains(history.out, "an operator forbids to merge it"))
      << history.out;
  const double after = Metric(server, "descant_merge_steps_total");
  const Answer unmerged = Ask(server, GreedyRequest(kPrompt, "pirate", 16));
  EXPECT_EQ(Bits(unmerged),
            Bits(Ask(*plain_, GreedyRequest(kPrompt, "pirate", 16))));
  EXPECT_EQ(Metric(server, "descant_merge_steps_total"), after);
}

TEST_F(MergeTest, ReplacedWhileMerged) {
  ServerProcess& server = *merging_;
  const std::string old = UploadRandom(server, "mine", 1);
  SetMode("pin", "mine");
  AskUntilMerged(server, "mine", old);
  Stream stream(server, "mine");
  const std::string digest = UploadRandom(server, "mine", 2);
  ASSERT_NE(digest, old);
  const v1::GenerateRequest request = GreedyRequest(kPrompt, "mine", 16);
  const Answer answer = Ask(server, request);
  EXPECT_EQ(answer.adapter_digest, digest);
  UploadRandom(*plain_, "mine", 2);
  EXPECT_EQ(Bits(answer), Bits(Ask(*plain_, request)))
      << "the new version is not merged, nor is the old one used for it";
  EXPECT_EQ(stream.Join(), old);

  // The wish was for that version; without it its memory is for others.
  EXPECT_EQ(SetMode("auto", "mine@" + old), "merged");
  EXPECT_EQ(SetMode("forbid", "mine@" + old), "unmerged");
  EXPECT_EQ(Metric(server, "descant_merge_memory_bytes"), 0);
}

TEST_F(MergeTest, DeletedWhileMerged) {
  ServerProcess& server = *merging_;
  const std::string digest = UploadRandom(server, "gone", 3);
  SetMode("pin", "gone");
  AskUntilMerged(server, "gone", digest);
  Stream stream(server, "gone");
  grpc::ClientContext context;
  v1::DeleteAdapterRequest request;
  request.set_adapter_id("gone");
  v1::DeleteAdapterResponse response;
  ASSERT_TRUE(
      server.adapters().DeleteAdapter(&context, request, &response).ok());
  EXPECT_EQ(Ask(server, GreedyRequest(kPrompt, "gone", 1)).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(stream.Join(), digest);
  EXPECT_EQ(Merges(server, {"pin", "gone"}).exit_code, cli::kExitNotFound);
  // Its pin ends with it; its weights go as those that nobody uses.
  EXPECT_TRUE(WaitUntil(
      [&] { return StatusOf(server, digest).mode() == v1::MERGE_MODE_AUTO; }));
}

TEST_F(MergeTest, OffAndUnsupported) {
  UploadRandom(*plain_, "mine", 1);
  const CliRun off = Merges(*plain_, {"pin", "mine"});
  EXPECT_EQ(off.exit_code, cli::kExitRefused);
  EXPECT_TRUE(absl::StrContains(off.err, "FAILED_PRECONDITION (HOT_MERGE_OFF)"))
      << off.err;
  EXPECT_EQ(Merges(*plain_, {"auto", "mine"}).exit_code, 0);
  EXPECT_EQ(Merges(*plain_, {"pin", "nobody"}).exit_code, cli::kExitNotFound);
  const CliRun list = Merges(*plain_, {});
  EXPECT_EQ(list.exit_code, 0) << list.err;
  EXPECT_TRUE(absl::StrContains(list.out, "hot merge is off")) << list.out;
  EXPECT_EQ(Metric(*plain_, "descant_merge_memory_capacity_bytes"), 0);

  const auto int8 = StartWith({"--hot-merge=auto", "--weights=int8"});
  ASSERT_NE(int8, nullptr);
  EXPECT_TRUE(absl::StrContains(int8->Log(), "hot merge is off: "))
      << int8->Log();
  UploadRandom(*int8, "mine", 1);
  const CliRun unsupported = Merges(*int8, {"pin", "mine"});
  EXPECT_EQ(unsupported.exit_code, cli::kExitRefused);
  EXPECT_TRUE(absl::StrContains(unsupported.err, "(MERGE_UNSUPPORTED)"))
      << unsupported.err;
  const CliRun json = Merges(*int8, {"--json"});
  ASSERT_EQ(json.exit_code, 0) << json.err;
  EXPECT_EQ(Json::parse(json.out)["enabled"], true);
  EXPECT_NE(Json::parse(json.out)["unavailable_reason"], "");
}

}  // namespace
}  // namespace descant::e2e
