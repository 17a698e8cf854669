// --adapters-manifest: at the start, on SIGHUP, and where it is bad.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

class ManifestTest : public ::testing::Test {
 protected:
  void Write(const std::string& content) { std::ofstream(path_) << content; }
  ServerOptions Options() const {
    ServerOptions options;
    options.flags = {absl::StrCat("--adapters-manifest=", path_)};
    return options;
  }
  static v1::Adapter Get(ServerProcess& server, const std::string& id) {
    grpc::ClientContext context;
    v1::GetAdapterRequest request;
    request.set_adapter_id(id);
    v1::GetAdapterResponse response;
    server.adapters().GetAdapter(&context, request, &response);
    return response.adapter();
  }
  static bool Await(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!done()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/manifest.yaml";
  const std::string demo_ = SourcePath("deploy/demo/adapters");
};

TEST_F(ManifestTest, IsThereWhenReadyAndReadAgainOnHangup) {
  Write(absl::StrCat("adapters:\n  - {name: mood, directory: ", demo_,
                     "/sentiment, pinned: true}\n"));
  auto server = ServerProcess::Start(Options());
  ASSERT_TRUE(server.ok()) << server.status();
  const v1::Adapter mood = Get(**server, "mood");
  EXPECT_EQ(mood.state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ(mood.level(), v1::ADAPTER_LEVEL_DEVICE);
  EXPECT_TRUE(mood.pinned());
  EXPECT_TRUE(Ask(**server, GreedyRequest({504, 3575}, "mood", 4)).status.ok());

  Write(
      absl::StrCat("adapters:\n  - {name: mood, absent: true}\n"
                   "  - {name: sea, directory: ",
                   demo_, "/pirate, labels: {kind: style}}\n"));
  ASSERT_EQ(kill((*server)->pid(), SIGHUP), 0);
  ASSERT_TRUE(Await([&] { return Get(**server, "mood").name().empty(); }));
  ASSERT_TRUE(Await([&] { return !Get(**server, "sea").name().empty(); }));
  EXPECT_EQ(Get(**server, "sea").labels().at("kind"), "style");

  // A bad file changes nothing, and the server goes on.
  Write("adapters: [{name: sea, url: nowhere}]");
  ASSERT_EQ(kill((*server)->pid(), SIGHUP), 0);
  ASSERT_TRUE(Await([&] {
    return absl::StrContains((*server)->Log(), "manifest: not read again");
  }));
  EXPECT_EQ(Get(**server, "sea").state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ((*server)->Terminate(), 0);
}

TEST_F(ManifestTest, ABadFileAtTheStartIsExitCode78) {
  Write("adapters: [{name: sea, url: nowhere}]");
  auto server = ServerProcess::Launch(Options());
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->Wait(std::chrono::seconds(60)), 78);
  EXPECT_TRUE(absl::StrContains((*server)->Log(), "url: unknown key"))
      << (*server)->Log();
}

}  // namespace
}  // namespace descant::e2e
