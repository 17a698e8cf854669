#include "server/cli/child_process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <set>

#include "absl/strings/str_cat.h"

namespace descant::cli {
namespace {

constexpr auto kLong = std::chrono::seconds(30);

class ChildProcessTest : public testing::Test {
 protected:
  absl::StatusOr<ChildProcess> Shell(const std::string& script) {
    return ChildProcess::Start({"/bin/sh", "-c", script}, {"COLOUR=green"},
                               log_);
  }
  std::string Log() const {
    std::ifstream file(log_);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  void TearDown() override { std::remove(log_.c_str()); }

  const std::string log_ =
      absl::StrCat(testing::TempDir(), "child-", getpid(), ".log");
};

TEST_F(ChildProcessTest, ExitCodeOutputAndEnvironment) {
  auto child = Shell("echo $COLOUR; echo wrong >&2; exit 7");
  ASSERT_TRUE(child.ok()) << child.status();
  EXPECT_EQ(child->Wait(kLong), 7);
  EXPECT_EQ(child->Poll(), 7);
  EXPECT_EQ(Log(), "green\nwrong\n");
}

TEST_F(ChildProcessTest, SignalAndTimeout) {
  auto child =
      Shell("trap 'exit 3' TERM; echo on; while :; do sleep 0.01; done");
  ASSERT_TRUE(child.ok()) << child.status();
  while (Log().empty()) {
  }
  EXPECT_EQ(child->Wait(std::chrono::milliseconds(20)), std::nullopt);
  child->Signal(SIGTERM);
  EXPECT_EQ(child->Wait(kLong), 3);
  child->Signal(SIGKILL);
  EXPECT_EQ(child->Poll(), 3);
}

TEST_F(ChildProcessTest, KilledAtTheEnd) {
  pid_t pid = 0;
  {
    auto child = Shell("exec sleep 600");
    ASSERT_TRUE(child.ok());
    ChildProcess moved = *std::move(child);
    pid = moved.pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST_F(ChildProcessTest, NoSuchProgram) {
  EXPECT_EQ(ChildProcess::Start({"/no/such"}, {}, log_).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(FreeLoopbackPortsTest, AreDistinct) {
  const auto ports = FreeLoopbackPorts(8);
  ASSERT_TRUE(ports.ok());
  EXPECT_EQ(std::set<int>(ports->begin(), ports->end()).size(), 8u);
}

}  // namespace
}  // namespace descant::cli
