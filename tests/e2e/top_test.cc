// `descant top` against the real server: as text, as JSON, and on a terminal.
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/cli/child_process.h"
#include "server/cli/exit_code.h"
#include "tests/e2e/client.h"
#include "tests/e2e/server_process.h"

namespace descant::e2e {
namespace {

using Json = nlohmann::json;

constexpr auto kPatience = std::chrono::seconds(60);
constexpr char kEnterScreen[] = "\x1b[?1049h";
constexpr char kLeaveScreen[] = "\x1b[?1049l";

class TopTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto server = ServerProcess::Start({});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = server->release();
  }
  static void TearDownTestSuite() { delete server_; }
  void SetUp() override { ASSERT_NE(server_, nullptr); }
  void TearDown() override {
    stop_ = true;
    if (load_.joinable()) load_.join();
  }

  // One generation after the other, until the test's end.
  void StartLoad(const std::string& adapter) {
    load_ = std::thread([this, adapter] {
      while (!stop_) {
        const Answer answer =
            Ask(*server_, GreedyRequest({504, 3575, 282, 4649, 314}, adapter,
                                        /*max_tokens=*/50));
        EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
      }
    });
  }

  std::vector<std::string> Command(const std::vector<std::string>& more) {
    std::vector<std::string> command = {
        BinaryPath("descant"), "--target",
        server_->target(),     "top",
        "--admin-target",      server_->admin_target()};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  // What `descant top` prints where there is no terminal.
  std::string Run(const std::vector<std::string>& more, int* exit_code) {
    const std::string path = folder_.path() + "/out";
    auto child = cli::ChildProcess::Start(Command(more), {}, path);
    EXPECT_TRUE(child.ok()) << child.status();
    if (!child.ok()) return "";
    *exit_code = child->Wait(kPatience).value_or(-1);
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static ServerProcess* server_;
  const TemporaryFolder folder_;
  std::atomic<bool> stop_{false};
  std::thread load_;
};

ServerProcess* TopTest::server_ = nullptr;

// `descant` on a terminal of its own.
class TerminalProcess {
 public:
  TerminalProcess(const std::vector<std::string>& command, int width,
                  int height) {
    winsize size = {};
    size.ws_col = static_cast<unsigned short>(width);
    size.ws_row = static_cast<unsigned short>(height);
    std::vector<char*> argv;
    for (const std::string& part : command) {
      argv.push_back(const_cast<char*>(part.c_str()));
    }
    argv.push_back(nullptr);
    pid_ = forkpty(&terminal_, nullptr, nullptr, &size);
    if (pid_ == 0) {
      execv(argv[0], argv.data());
      _exit(127);
    }
  }
  ~TerminalProcess() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(terminal_);
  }

  void WaitUntilStopped() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status)) << status;
  }

  // Everything since the last call, up to and with `text`.
  std::string ReadUntil(const std::string& text) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < end) {
      if (const size_t at = unread_.find(text); at != std::string::npos) {
        std::string result = unread_.substr(0, at + text.size());
        unread_.erase(0, at + text.size());
        return result;
      }
      pollfd ready = {terminal_, POLLIN, 0};
      if (poll(&ready, 1, 100) <= 0) continue;
      char bytes[4096];
      const ssize_t got = read(terminal_, bytes, sizeof(bytes));
      if (got <= 0) break;  // EIO: the other end has gone
      unread_.append(bytes, static_cast<size_t>(got));
    }
    ADD_FAILURE() << "no \"" << text << "\" in: " << unread_;
    return "";
  }

  void Type(char key) { ASSERT_EQ(write(terminal_, &key, 1), 1); }
  void Resize(int width, int height) {
    winsize size = {};
    size.ws_col = static_cast<unsigned short>(width);
    size.ws_row = static_cast<unsigned short>(height);
    ASSERT_EQ(ioctl(terminal_, TIOCSWINSZ, &size), 0);
  }
  void Signal(int signal) { kill(pid_, signal); }
  tcflag_t InputMode() const {
    termios mode = {};
    EXPECT_EQ(tcgetattr(terminal_, &mode), 0);
    return mode.c_lflag & (ICANON | ECHO);
  }
  // waitpid's status.
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
  int terminal_ = -1;
  std::string unread_;
};

TEST_F(TopTest, OncePrintsOnePictureOfOneInterval) {
  StartLoad("");
  int code = -1;
  const std::string text = Run({"--once", "--interval", "0.5"}, &code);
  ASSERT_EQ(code, 0) << text;
  EXPECT_TRUE(absl::StartsWith(text, "descant  ")) << text;
  EXPECT_TRUE(absl::StrContains(text, "SmolLM2-135M")) << text;
  EXPECT_TRUE(absl::StrContains(text, "\nTENANT ")) << text;
  EXPECT_TRUE(absl::StrContains(text, "\n(all) ")) << text;
  EXPECT_FALSE(absl::StrContains(text, "\x1b")) << text;
  EXPECT_FALSE(absl::StrContains(text, "out -")) << text;
}

TEST_F(TopTest, JsonSaysWhoDoesWhat) {
  ASSERT_TRUE(Upload(*server_, "tuned",
                     RandomAdapterFor(GetModel(*server_), {".q_proj"}, {}))
                  .ok());
  StartLoad("tuned");
  double generated = 0;
  bool seen = false;
  for (int i = 0; i < 20 && !(seen && generated > 0); ++i) {
    int code = -1;
    const std::string text =
        Run({"--once", "--json", "--interval", "0.5"}, &code);
    ASSERT_EQ(code, 0) << text;
    const Json json = Json::parse(text);
    EXPECT_GE(json["interval_s"].get<double>(), 0.5);
    EXPECT_EQ(json["tenants"].size(), 1u);
    generated = json["generated_tokens_per_s"];
    for (const Json& adapter : json["adapters"]) {
      seen = seen || (adapter["name"] == "tuned" && adapter["running"] == 1 &&
                      adapter["level"] == "device");
    }
  }
  EXPECT_GT(generated, 0);
  EXPECT_TRUE(seen);
}

TEST_F(TopTest, NoServerIsOneLineAndAnExitCode) {
  auto child = cli::ChildProcess::Start(
      {BinaryPath("descant"), "top", "--once", "--admin-target", "127.0.0.1:1"},
      {}, folder_.path() + "/none");
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(child->Wait(kPatience).value_or(-1), cli::kExitRetry);
}

TEST_F(TopTest, OnATerminalItDrawsFollowsTheSizeAndQuits) {
  TerminalProcess top(Command({"--interval", "0.2"}), 80, 24);
  top.ReadUntil(kEnterScreen);
  const std::string first = top.ReadUntil("REFUSED/S");
  EXPECT_TRUE(absl::StrContains(first, "\x1b[1mdescant")) << first;
  EXPECT_EQ(top.InputMode(), 0u);
  top.Resize(40, 10);
  top.ReadUntil("OUT/S\x1b[m");  // the last column there is room for
  top.Type('x');
  top.Type('q');
  top.ReadUntil(kLeaveScreen);
  const int status = top.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(TopTest, ASignalGivesTheTerminalBack) {
  for (const int signal : {SIGINT, SIGTERM}) {
    TerminalProcess top(Command({"--interval", "0.2"}), 80, 24);
    top.ReadUntil("REFUSED/S");
    top.Signal(signal);
    top.ReadUntil(kLeaveScreen);
    EXPECT_EQ(top.InputMode(), static_cast<tcflag_t>(ICANON | ECHO));
    const int status = top.Wait();
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << status;
  }
}

TEST_F(TopTest, AStopGivesTheTerminalBackUntilItGoesOn) {
  TerminalProcess top(Command({"--interval", "0.2"}), 80, 24);
  top.ReadUntil("REFUSED/S");
  top.Type('\x1a');  // Ctrl-Z
  top.ReadUntil(kLeaveScreen);
  EXPECT_EQ(top.InputMode(), static_cast<tcflag_t>(ICANON | ECHO));
  // Going on before it has stopped would be lost.
  top.WaitUntilStopped();
  top.Signal(SIGCONT);
  top.ReadUntil(kEnterScreen);
  top.ReadUntil("REFUSED/S");
  EXPECT_EQ(top.InputMode(), 0u);
  top.Type('q');
  top.ReadUntil(kLeaveScreen);
  EXPECT_EQ(top.Wait(), 0);
}

// The one that it looks at ends and another one begins: it waits, and goes on.
TEST_F(TopTest, AServerThatEndsIsWaitedFor) {
  auto server = ServerProcess::Start({});
  ASSERT_TRUE(server.ok()) << server.status();
  TerminalProcess top({BinaryPath("descant"), "top", "--interval", "0.2",
                       "--admin-target", (*server)->admin_target()},
                      80, 24);
  top.ReadUntil("REFUSED/S");
  EXPECT_EQ((*server)->Terminate(), 0);
  top.ReadUntil("no answer: UNAVAILABLE");
  top.Type('q');
  top.ReadUntil(kLeaveScreen);
  EXPECT_EQ(top.Wait(), 0);
}

}  // namespace
}  // namespace descant::e2e
