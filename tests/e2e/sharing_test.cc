// Adapters shared between tenants, on the real server: kill -9 loses nothing
// that was acknowledged, no cache hit crosses tenants, and the client's
// commands.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/cli/adapter_upload.h"
#include "server/cli/connection.h"
#include "server/cli/exit_code.h"
#include "tests/e2e/cli_run.h"
#include "tests/e2e/client.h"
#include "tests/e2e/metrics_page.h"
#include "tests/e2e/server_process.h"
#include "tests/e2e/tenants_file.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;

constexpr auto kExitTimeout = std::chrono::seconds(60);
constexpr int kCycles = 8;

// Where a server dies by itself.
const char* const kFailpoints[] = {"store.before_share", "store.before_journal",
                                   "store.before_journal_sync",
                                   "store.after_journal_sync"};

class SharingTest : public ::testing::Test {
 protected:
  SharingTest() {
    options_.adapter_dir = folder_.path() + "/store";
    options_.flags = {"--tenants=" +
                      WriteTenantsFile(folder_.path(), {"acme", "globex"})};
  }

  void Start() {
    server_.reset();
    auto server = ServerProcess::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    acme_ = cli::Connect(server_->target(), {.api_key = KeyOfTenant("acme")});
    globex_ =
        cli::Connect(server_->target(), {.api_key = KeyOfTenant("globex")});
  }

  void Upload(const std::string& name) {
    grpc::ClientContext context;
    cli::SetShortDeadline(&context);
    v1::GetModelResponse model;
    ASSERT_TRUE(acme_.generation->GetModel(&context, {}, &model).ok());
    const AdapterFiles files =
        RandomAdapterFor(model, {".q_proj", ".v_proj"}, {.rank = 4});
    v1::UploadAdapterHeader header;
    header.set_name(name);
    header.set_config_json(files.config_json);
    v1::UploadAdapterResponse response;
    const grpc::Status status =
        cli::UploadAdapter(acme_.adapters.get(), std::move(header),
                           files.safetensors_bytes, nullptr, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  grpc::Status Share(const std::string& name,
                     const std::vector<std::string>& tenants) {
    grpc::ClientContext context;
    cli::SetShortDeadline(&context);
    v1::ShareAdapterRequest request;
    request.set_adapter_id(name);
    for (const std::string& id : tenants) {
      request.mutable_sharing()->add_tenants(id);
    }
    v1::ShareAdapterResponse response;
    return acme_.adapters->ShareAdapter(&context, request, &response);
  }

  // Whom the owner is told that it shares with.
  std::set<std::string> SharedWith(const std::string& name) {
    grpc::ClientContext context;
    cli::SetShortDeadline(&context);
    v1::GetAdapterRequest request;
    request.set_adapter_id(name);
    v1::GetAdapterResponse response;
    EXPECT_TRUE(acme_.adapters->GetAdapter(&context, request, &response).ok());
    const auto& tenants = response.adapter().sharing().tenants();
    return {tenants.begin(), tenants.end()};
  }

  // Cached tokens; -1 where it was refused.
  static int Ask(const cli::Connection& as, const std::string& adapter,
                 const std::vector<int64_t>& prompt) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(120));
    v1::GenerateResponse response;
    const grpc::Status status = as.generation->Generate(
        &context, GreedyRequest(prompt, adapter, 2), &response);
    if (!status.ok()) {
      EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND)
          << status.error_message();
      return -1;
    }
    return static_cast<int>(response.usage().cached_tokens());
  }

  CliRun Run(const std::string& tenant,
             const std::vector<std::string>& arguments) {
    return RunCli(arguments,
                  {"DESCANT_TARGET=" + server_->target(),
                   "DESCANT_API_KEY=" + KeyOfTenant(tenant)},
                  folder_.path());
  }

  const TemporaryFolder folder_;
  ServerOptions options_;
  std::unique_ptr<ServerProcess> server_;
  cli::Connection acme_;
  cli::Connection globex_;
};

TEST_F(SharingTest, KilledAgainAndAgain) {
  const uint32_t seed = 20261126;
  std::printf("%d cycles, seed %u\n", kCycles, seed);
  std::mt19937 random(seed);
  const std::vector<int64_t> prompt = {504, 3575, 282};
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(Upload("a"));
  std::set<std::string> acknowledged;
  std::set<std::string> in_flight;
  int calls = 0;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    server_->Kill();
    EXPECT_EQ(server_->Wait(kExitTimeout), 128 + 9);
    options_.environment = {absl::StrCat(
        "DESCANT_FAILPOINTS=", kFailpoints[cycle % std::size(kFailpoints)],
        "=kill:", 2 + random() % 5)};
    ASSERT_NO_FATAL_FAILURE(Start());
    std::set<std::string> found = SharedWith("a");
    EXPECT_TRUE(found == acknowledged || found == in_flight) << cycle;
    acknowledged = found;
    EXPECT_EQ(Ask(globex_, "acme/a", prompt) >= 0, found.contains("globex"));
    // Until the server dies.
    while (true) {
      in_flight = {absl::StrCat("t", ++calls)};
      if (random() % 2 == 0) in_flight.insert("globex");
      if (!Share("a", {in_flight.begin(), in_flight.end()}).ok()) break;
      acknowledged = in_flight;
      ASSERT_LT(calls, 1000);
    }
  }
  std::printf("%d calls\n", calls);
  EXPECT_GE(calls, 3 * kCycles);
  server_->Kill();
  options_.environment.clear();
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(Share("a", {"globex"}).ok());
  server_->Kill();
  server_->Wait(kExitTimeout);
  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_EQ(SharedWith("a"), std::set<std::string>{"globex"});
  EXPECT_GE(Ask(globex_, "acme/a", prompt), 0);
  EXPECT_EQ(server_->Terminate(), 0);
}

// P6. What prefix_probe_bench measures, without a clock: what the answers and
// the metrics count.
TEST_F(SharingTest, NoCacheHitCrossesTenants) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(Upload("a"));
  ASSERT_TRUE(Share("a", {"globex"}).ok());
  const auto hits = [this] {
    const auto page = Scrape(server_->metrics_port());
    EXPECT_TRUE(page.ok()) << page.status();
    return Sum(*page, "vllm:prefix_cache_hits_total");
  };
  std::vector<int64_t> prompt;
  for (int i = 0; i < 100; ++i) prompt.push_back(1000 + i);
  for (const char* adapter : {"", "acme/a"}) {
    EXPECT_EQ(Ask(acme_, adapter, prompt), 0) << adapter;
    const double before = hits();
    EXPECT_EQ(Ask(globex_, adapter, prompt), 0) << adapter;
    EXPECT_EQ(hits(), before) << adapter;
    // Either finds its own.
    EXPECT_EQ(Ask(acme_, adapter, prompt), 96) << adapter;
    EXPECT_EQ(Ask(globex_, adapter, prompt), 96) << adapter;
    EXPECT_EQ(hits(), before + 2 * 96) << adapter;
  }
  EXPECT_EQ(server_->Terminate(), 0);
}

TEST_F(SharingTest, FromTheCommandLine) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(Upload("a"));
  const std::vector<std::string> use = {"generate",     "--adapter", "acme/a",
                                        "--prompt",     "Hello",     "--json",
                                        "--max-tokens", "2"};
  EXPECT_EQ(Run("globex", use).exit_code, cli::kExitNotFound);
  const CliRun share = Run("acme", {"adapters", "share", "--with", "globex",
                                    "a", "--with", "other"});
  ASSERT_EQ(share.exit_code, 0) << share.err;
  EXPECT_EQ(share.out, "a is shared with globex other\n");
  const CliRun used = Run("globex", use);
  ASSERT_EQ(used.exit_code, 0) << used.err;
  const CliRun get = Run("acme", {"adapters", "get", "a"});
  EXPECT_TRUE(absl::StrContains(get.out, "globex other")) << get.out;
  const CliRun seen = Run("globex", {"adapters", "get", "acme/a", "--json"});
  ASSERT_EQ(seen.exit_code, 0) << seen.err;
  EXPECT_EQ(Json::parse(seen.out)["name"], "acme/a");
  EXPECT_EQ(Json::parse(seen.out)["digest"],
            Json::parse(used.out)["adapter_digest"]);
  EXPECT_TRUE(Json::parse(seen.out)["sharing"]["tenants"].empty());
  const CliRun list = Run("globex", {"adapters", "list", "--shared"});
  EXPECT_TRUE(absl::StrContains(list.out, "acme/a ")) << list.out;
  const CliRun own = Run("globex", {"adapters", "list", "--json"});
  EXPECT_TRUE(Json::parse(own.out).empty()) << own.out;

  const CliRun all = Run("acme", {"adapters", "share", "a", "--all", "--json"});
  ASSERT_EQ(all.exit_code, 0) << all.err;
  EXPECT_EQ(Json::parse(all.out)["sharing"]["all_tenants"], true);
  const CliRun nobody = Run("acme", {"adapters", "share", "a", "--nobody"});
  EXPECT_EQ(nobody.out, "a is shared with nobody\n") << nobody.err;
  EXPECT_EQ(Run("globex", use).exit_code, cli::kExitNotFound);
  // One way to say whom, and only one.
  EXPECT_EQ(Run("acme", {"adapters", "share", "a"}).exit_code, cli::kExitUsage);
  EXPECT_EQ(
      Run("acme", {"adapters", "share", "a", "--all", "--nobody"}).exit_code,
      cli::kExitUsage);
  EXPECT_EQ(Run("globex", {"adapters", "share", "acme/a", "--all"}).exit_code,
            cli::kExitNotFound);
  EXPECT_EQ(server_->Terminate(), 0);
}

}  // namespace
}  // namespace descant::e2e
