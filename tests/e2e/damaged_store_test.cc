// A store of 1,000 adapters of which 100 are damaged in four ways: the server
// starts, serves the others, and never the damaged ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/cli/child_process.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr int kAdapters = 1000;
constexpr int kDamagedOfAKind = 25;
constexpr int kUploaders = 4;
// Beside the base model's own; the bench's bar is half of it.
constexpr auto kSlowestStart = std::chrono::seconds(6);
const std::vector<int64_t> kPrompt = {504, 3575, 282, 4649, 314};

std::string NameOf(int i) { return absl::StrCat("adapter-", i); }

std::map<std::string, v1::Adapter> ListAll(ServerProcess& server) {
  std::map<std::string, v1::Adapter> all;
  v1::ListAdaptersRequest request;
  request.set_page_size(1000);
  do {
    grpc::ClientContext context;
    v1::ListAdaptersResponse page;
    EXPECT_TRUE(server.adapters().ListAdapters(&context, request, &page).ok());
    for (const v1::Adapter& adapter : page.adapters()) {
      all[adapter.name()] = adapter;
    }
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

// What was done to a blob.
enum Damage { kMissing, kShort, kLong, kFlipped, kKinds };

void Apply(Damage damage, const std::filesystem::path& blob,
           std::mt19937* rng) {
  const auto size = std::filesystem::file_size(blob);
  switch (damage) {
    case kMissing:
      std::filesystem::remove(blob);
      break;
    case kShort:
      std::filesystem::resize_file(blob, (*rng)() % size);
      break;
    case kLong:
      std::ofstream(blob, std::ios::app | std::ios::binary) << "tail";
      break;
    default: {
      // Within the tensors, where only the digest tells.
      std::fstream file(blob, std::ios::in | std::ios::out | std::ios::binary);
      const auto at = static_cast<std::streamoff>(size - 1 - (*rng)() % 1000);
      file.seekg(at);
      const char byte = static_cast<char>(file.get() ^ (1 << (*rng)() % 8));
      file.seekp(at);
      file.put(byte);
    }
  }
}

TEST(DamagedStoreTest, ServesWhatIsSound) {
  const uint32_t seed = 20261126;
  std::printf("seed %u\n", seed);
  std::mt19937 rng(seed);
  const TemporaryFolder folder;
  ServerOptions options;
  options.adapter_dir = folder.path() + "/store";
  std::map<std::string, std::string> names;  // by digest
  {
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    const v1::GetModelResponse model = GetModel(**server);
    std::atomic<int> next = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < kUploaders; ++t) {
      threads.emplace_back([&] {
        for (int i = next++; i < kAdapters; i = next++) {
          const grpc::Status status =
              Upload(**server, NameOf(i),
                     RandomAdapterFor(model, {"layers.0.self_attn.q_proj"},
                                      {.rank = 1, .seed = 1u + i}));
          EXPECT_TRUE(status.ok()) << status.error_message();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& [name, adapter] : ListAll(**server)) {
      names[adapter.digest()] = name;
    }
    ASSERT_EQ(names.size(), size_t{kAdapters});
    EXPECT_EQ((*server)->Terminate(), 0);
  }

  std::vector<std::filesystem::path> blobs;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           options.adapter_dir + "/blobs")) {
    if (entry.is_regular_file()) blobs.push_back(entry.path());
  }
  ASSERT_EQ(blobs.size(), size_t{kAdapters});
  std::sort(blobs.begin(), blobs.end());
  std::shuffle(blobs.begin(), blobs.end(), rng);
  std::map<std::string, Damage> damaged;
  for (int i = 0; i < kKinds * kDamagedOfAKind; ++i) {
    const auto damage = static_cast<Damage>(i % kKinds);
    damaged[names.at("sha256:" + blobs[i].filename().string())] = damage;
    Apply(damage, blobs[i], &rng);
  }
  // And files that no record names.
  std::ofstream(blobs[0].parent_path() / std::string(64, 'e')) << "extra";

  ServerOptions empty;
  const auto start = std::chrono::steady_clock::now();
  {
    auto server = ServerProcess::Start(empty);
    ASSERT_TRUE(server.ok()) << server.status();
  }
  const auto without = std::chrono::steady_clock::now();
  auto started = ServerProcess::Start(options);
  ASSERT_TRUE(started.ok()) << started.status();
  const auto took = std::chrono::steady_clock::now() - without;
  ServerProcess& server = **started;
  const auto extra = took - (without - start);
  std::printf("ready %.2f s after a server without adapters\n",
              std::chrono::duration<double>(extra).count());
  EXPECT_LT(extra, kSlowestStart);

  // Missing, short and long files are known at once; flipped bits too, where
  // the scrub has come by.
  const std::map<std::string, v1::Adapter> listed = ListAll(server);
  ASSERT_EQ(listed.size(), size_t{kAdapters});
  for (const auto& [name, adapter] : listed) {
    const auto it = damaged.find(name);
    if (it == damaged.end()) {
      EXPECT_EQ(adapter.state(), v1::ADAPTER_STATE_READY) << name;
    } else if (it->second != kFlipped) {
      EXPECT_EQ(adapter.state(), v1::ADAPTER_STATE_QUARANTINED) << name;
    }
  }
  // Never a token, whether the scrub or the first use finds it.
  for (const auto& [name, damage] : damaged) {
    const Answer answer = Ask(server, GreedyRequest(kPrompt, name, 2));
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DATA_LOSS) << name;
    EXPECT_TRUE(answer.tokens.empty());
  }
  for (const auto& [name, adapter] : ListAll(server)) {
    EXPECT_EQ(adapter.state(), damaged.contains(name)
                                   ? v1::ADAPTER_STATE_QUARANTINED
                                   : v1::ADAPTER_STATE_READY)
        << name;
  }
  for (int i = 0; i < kAdapters; i += 97) {
    if (damaged.contains(NameOf(i))) continue;
    const Answer answer = Ask(server, GreedyRequest(kPrompt, NameOf(i), 2));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  // The same content again repairs.
  const std::string repaired = damaged.begin()->first;
  const int index = std::stoi(repaired.substr(repaired.rfind('-') + 1));
  ASSERT_TRUE(
      Upload(server, repaired,
             RandomAdapterFor(GetModel(server), {"layers.0.self_attn.q_proj"},
                              {.rank = 1, .seed = 1u + index}))
          .ok());
  EXPECT_TRUE(Ask(server, GreedyRequest(kPrompt, repaired, 2)).status.ok());
  EXPECT_EQ(server.Terminate(), 0);
}

// --verify-store says what is damaged, without a model, and changes nothing.
TEST(DamagedStoreTest, VerifyStoreNamesTheDamage) {
  const TemporaryFolder folder;
  ServerOptions options;
  options.adapter_dir = folder.path() + "/store";
  {
    auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(Upload(**server, NameOf(i),
                         RandomAdapterFor(GetModel(**server), {".q_proj"},
                                          {.rank = 1, .seed = 1u + i}))
                      .ok());
    }
    EXPECT_EQ((*server)->Terminate(), 0);
  }
  int runs = 0;
  const auto verify = [&](std::string* output) {
    const std::string log = absl::StrCat(folder.path(), "/output-", ++runs);
    auto child = cli::ChildProcess::Start(
        {BinaryPath("descant-server"), "--verify-store",
         absl::StrCat("--adapter-dir=", options.adapter_dir)},
        {}, log);
    EXPECT_TRUE(child.ok()) << child.status();
    const int code = child->Wait(std::chrono::seconds(60)).value_or(-1);
    std::ifstream file(log);
    output->assign(std::istreambuf_iterator<char>(file), {});
    return code;
  };
  std::string output;
  EXPECT_EQ(verify(&output), 0) << output;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           options.adapter_dir + "/blobs")) {
    if (!entry.is_regular_file()) continue;
    std::mt19937 rng(1);
    Apply(kFlipped, entry.path(), &rng);
    break;
  }
  EXPECT_EQ(verify(&output), 70) << output;
  EXPECT_NE(output.find("adapter-"), std::string::npos) << output;
}

}  // namespace
}  // namespace descant::e2e
