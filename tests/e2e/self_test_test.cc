// descant-server --self-test and --startup-self-test: a table and an exit code,
// and no listener where a check fails.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/cli/child_process.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

constexpr auto kLong = std::chrono::seconds(120);

// The exit code of --self-test; `output` is all that it wrote.
int SelfTest(const std::vector<std::string>& flags,
             const std::vector<std::string>& environment, std::string* output) {
  const TemporaryFolder folder;
  const std::string log = folder.path() + "/output";
  std::vector<std::string> command = {BinaryPath("descant-server"),
                                      "--self-test"};
  command.insert(command.end(), flags.begin(), flags.end());
  auto child = cli::ChildProcess::Start(command, environment, log);
  EXPECT_TRUE(child.ok()) << child.status();
  const int code = child->Wait(kLong).value_or(-1);
  std::ifstream file(log);
  output->assign(std::istreambuf_iterator<char>(file), {});
  return code;
}

TEST(SelfTestTest, TheDemoModelPasses) {
  std::string output;
  EXPECT_EQ(SelfTest({"--model=" + DemoModelPath()}, {}, &output), 0) << output;
  for (const char* line : {"kernel gemm ", "kernel attention ", "layer 0 ",
                           "layer 29 ", "embedding and head "}) {
    EXPECT_TRUE(absl::StrContains(output, line)) << output;
  }
  EXPECT_FALSE(absl::StrContains(output, "DIFFERS")) << output;
}

TEST(SelfTestTest, AFailedCheckIsExitCode70) {
  const std::string model = SourcePath("tests/golden/models/tiny-llama");
  std::string output;
  EXPECT_EQ(SelfTest({"--model=" + model, "--weights=int8"}, {}, &output), 0)
      << output;
  EXPECT_EQ(SelfTest({"--model=" + model},
                     {"DESCANT_FAILPOINTS=self_test.check=error:3"}, &output),
            70)
      << output;
  EXPECT_TRUE(absl::StrContains(output, "1 of ")) << output;
  EXPECT_EQ(SelfTest({"--model=" + model, "--device=reference"}, {}, &output),
            78)
      << output;
}

TEST(SelfTestTest, NothingIsServedWhereItFails) {
  ServerOptions options;
  options.model = SourcePath("tests/golden/models/tiny-llama");
  options.flags = {"--startup-self-test=on"};
  {
    const auto server = ServerProcess::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    EXPECT_TRUE(absl::StrContains((*server)->Log(), "self-test of cpu"))
        << (*server)->Log();
    EXPECT_EQ((*server)->Terminate(), 0);
  }
  options.environment = {"DESCANT_FAILPOINTS=self_test.check=error:3"};
  const auto server = ServerProcess::Launch(options);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->Wait(kLong), 70) << (*server)->Log();
  EXPECT_TRUE(absl::StrContains((*server)->Log(),
                                "computes something else than the reference"))
      << (*server)->Log();
  EXPECT_FALSE(absl::StrContains((*server)->Log(), "ready:"));
}

}  // namespace
}  // namespace descant::e2e
