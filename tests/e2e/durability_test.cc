// The real server, killed again and again while clients upload, replace, roll
// back and delete: what was acknowledged is there, what was not is wholly there
// or wholly not. DESCANT_KILL_CYCLES cycles (default 25); the seed is printed.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
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

constexpr int kClients = 4;
constexpr int kNamesOfAClient = 3;
constexpr int kContents = 6;
constexpr auto kExitTimeout = std::chrono::seconds(60);

// Where a server dies by itself; else a client's clock kills it.
const char* const kFailpoints[] = {
    "store.before_blob_sync",      "store.before_rename",
    "store.before_directory_sync", "store.before_journal",
    "store.before_journal_sync",   "store.after_journal_sync",
    "store.before_rollback",       "store.before_delete",
    "store.before_blob_remove"};

int Cycles() {
  const char* text = std::getenv("DESCANT_KILL_CYCLES");
  return text == nullptr ? 25 : std::atoi(text);
}

// Digest a name stands for; "" where there is none.
using Digest = std::string;

// What a name may stand for, as far as its client knows.
struct Name {
  std::string name;
  Digest acknowledged;
  std::optional<Digest> in_flight;  // outcome of a call that was not answered
  Digest before;                    // of the version before the current one
};

class Contents {
 public:
  void Make(ServerProcess& server) {
    for (int seed = 0; seed < kContents; ++seed) {
      files_.push_back(RandomAdapterFor(
          GetModel(server), {"layers.0.self_attn.q_proj"},
          {.rank = 1, .seed = static_cast<uint64_t>(seed + 1)}));
      v1::UploadAdapterHeader header;
      header.set_name("probe");
      header.set_config_json(files_.back().config_json);
      header.set_validate_only(true);
      v1::UploadAdapterResponse response;
      ASSERT_TRUE(cli::UploadAdapter(&server.adapters(), std::move(header),
                                     files_.back().safetensors_bytes, nullptr,
                                     &response)
                      .ok());
      digests_.push_back(response.adapter().digest());
    }
  }
  const AdapterFiles& files(int i) const { return files_[i]; }
  const Digest& digest(int i) const { return digests_[i]; }

 private:
  std::vector<AdapterFiles> files_;
  std::vector<Digest> digests_;
};

// Without the client's own attempts to go on: the server is gone for good.
grpc::Status UploadOnce(ServerProcess& server, const std::string& name,
                        const AdapterFiles& files) {
  v1::UploadAdapterHeader header;
  header.set_name(name);
  header.set_config_json(files.config_json);
  header.set_replace(true);
  v1::UploadAdapterResponse response;
  return cli::UploadAdapter(&server.adapters(), std::move(header),
                            files.safetensors_bytes, nullptr, &response,
                            {.max_failures = 1});
}

// One call; false when the server was gone.
bool Change(ServerProcess& server, const Contents& contents, std::mt19937* rng,
            Name* name) {
  const auto below = [rng](int n) { return static_cast<int>((*rng)() % n); };
  const int kind = below(10);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kExitTimeout);
  grpc::Status status;
  Digest next;
  if (kind < 6 || name->acknowledged.empty()) {
    const int content = below(kContents);
    next = contents.digest(content);
    name->in_flight = next;
    status = UploadOnce(server, name->name, contents.files(content));
  } else if (kind < 8 && !name->before.empty()) {
    next = name->before;
    name->in_flight = next;
    v1::RollbackAdapterRequest request;
    request.set_adapter_id(name->name);
    v1::RollbackAdapterResponse response;
    status = server.adapters().RollbackAdapter(&context, request, &response);
    if (status.ok()) {
      EXPECT_EQ(response.adapter().digest(), next);
    }
  } else {
    name->in_flight = next;
    v1::DeleteAdapterRequest request;
    request.set_adapter_id(name->name);
    v1::DeleteAdapterResponse response;
    status = server.adapters().DeleteAdapter(&context, request, &response);
  }
  if (!status.ok()) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE)
        << status.error_message();
    return false;
  }
  // An upload of what is there already changes nothing.
  if (next != name->acknowledged) {
    name->before = next.empty() ? "" : name->acknowledged;
  }
  name->acknowledged = next;
  name->in_flight.reset();
  return true;
}

// Every name is what it may be, and can be used: its bytes match its digest.
void Check(ServerProcess& server, std::vector<std::vector<Name>>* clients) {
  std::map<std::string, v1::Adapter> listed;
  grpc::ClientContext context;
  v1::ListAdaptersRequest request;
  request.set_page_size(1000);
  v1::ListAdaptersResponse response;
  ASSERT_TRUE(
      server.adapters().ListAdapters(&context, request, &response).ok());
  for (const v1::Adapter& adapter : response.adapters()) {
    EXPECT_EQ(adapter.state(), v1::ADAPTER_STATE_READY) << adapter.name();
    listed[adapter.name()] = adapter;
  }
  for (std::vector<Name>& names : *clients) {
    for (Name& name : names) {
      const auto it = listed.find(name.name);
      const Digest now = it == listed.end() ? "" : it->second.digest();
      EXPECT_TRUE(now == name.acknowledged ||
                  (name.in_flight.has_value() && now == *name.in_flight))
          << name.name << " is \"" << now << "\", acknowledged was \""
          << name.acknowledged << "\", in flight "
          << name.in_flight.value_or("nothing");
      name.acknowledged = now;
      name.in_flight.reset();
      name.before.clear();
      if (it == listed.end()) continue;
      grpc::ClientContext load_context;
      v1::LoadAdapterRequest load;
      load.mutable_adapter()->set_adapter_id(name.name);
      load.set_level(v1::ADAPTER_LEVEL_HOST);
      v1::LoadAdapterResponse loaded;
      const grpc::Status status =
          server.admin().LoadAdapter(&load_context, load, &loaded);
      EXPECT_TRUE(status.ok()) << name.name << ": " << status.error_message();
      listed.erase(it);
    }
  }
  EXPECT_TRUE(listed.empty()) << listed.begin()->first << " came from nowhere";
}

TEST(DurabilityTest, KilledAgainAndAgain) {
  const uint32_t seed = 20261126;
  std::printf("%d cycles, seed %u\n", Cycles(), seed);
  std::mt19937 rng(seed);
  const TemporaryFolder folder;
  ServerOptions options;
  options.adapter_dir = folder.path();
  // Small, so that blobs go while others come.
  options.flags = {"--adapter-versions=3"};
  Contents contents;
  {
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    contents.Make(**server);
  }
  std::vector<std::vector<Name>> clients(kClients);
  for (int c = 0; c < kClients; ++c) {
    for (int n = 0; n < kNamesOfAClient; ++n) {
      clients[c].push_back({absl::StrCat("adapter-", c, "-", n)});
    }
  }
  size_t acknowledged = 0;
  for (int cycle = 0; cycle < Cycles() && !HasFailure(); ++cycle) {
    // Every second server dies at a failpoint, if it gets there in time.
    options.environment.clear();
    if (cycle % 2 == 1) {
      options.environment.push_back(absl::StrCat(
          "DESCANT_FAILPOINTS=", kFailpoints[rng() % std::size(kFailpoints)],
          "=kill:", rng() % 40));
    }
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    Check(**server, &clients);
    std::vector<size_t> counts(kClients);
    std::vector<std::thread> threads;
    for (int c = 0; c < kClients; ++c) {
      threads.emplace_back([&, c, random = rng()]() mutable {
        std::mt19937 client_rng(random);
        while (Change(**server, contents, &client_rng,
                      &clients[c][client_rng() % kNamesOfAClient])) {
          ++counts[c];
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50 + rng() % 400));
    (*server)->Kill();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ((*server)->Wait(kExitTimeout), 128 + 9);
    for (const size_t count : counts) acknowledged += count;
  }
  options.environment.clear();
  auto server = ServerProcess::Start(options);
  ASSERT_TRUE(server.ok()) << server.status();
  Check(**server, &clients);
  EXPECT_EQ((*server)->Terminate(), 0);
  std::printf("%zu calls acknowledged\n", acknowledged);
  EXPECT_GT(acknowledged, static_cast<size_t>(Cycles()) * 4);
}

}  // namespace
}  // namespace descant::e2e
