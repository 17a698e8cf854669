// The log of JSON lines: whole lines, in order, whatever happens to the disk,
// to the file's name and to the process.
#include "server/json_lines_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/base/failpoint.h"

namespace descant {
namespace {

using Json = nlohmann::ordered_json;

class JsonLinesLogTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "lines-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    options_.path = folder_ + "/log";
  }
  void TearDown() override {
    DisarmFailpoints();
    std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<JsonLinesLog> Open() {
    auto log = JsonLinesLog::Open(options_);
    EXPECT_TRUE(log.ok()) << log.status();
    return log.ok() ? *std::move(log) : nullptr;
  }

  // The lines of the file, each parsed: one that is torn fails the test.
  std::vector<Json> Lines(const std::string& suffix = "") const {
    std::vector<Json> lines;
    std::ifstream file(options_.path + suffix);
    std::string line;
    while (std::getline(file, line)) {
      EXPECT_TRUE(Json::accept(line)) << line;
      lines.push_back(Json::parse(line, nullptr, false));
    }
    return lines;
  }

  std::string folder_;
  JsonLinesLogOptions options_;
};

TEST_F(JsonLinesLogTest, LinesInOrderFieldsInOrderAllEscaped) {
  {
    const auto log = Open();
    EXPECT_TRUE(log->Append({{"z", 1}, {"a", "quote \" newline \n esc \x1b"}}));
    EXPECT_TRUE(log->Append({{"bad", "\xff\xfe"}, {"utf8", "Grüße"}}));
    EXPECT_TRUE(log->Flush().ok());
    EXPECT_EQ(log->counts().written, 2u);
    std::ifstream file(options_.path);
    std::string line;
    std::getline(file, line);
    EXPECT_EQ(line, R"({"z":1,"a":"quote \" newline \n esc \u001b"})");
    std::getline(file, line);
    EXPECT_EQ(line, R"({"bad":"\ufffd\ufffd","utf8":"Gr\u00fc\u00dfe"})");
  }
  struct stat info = {};
  ASSERT_EQ(stat(options_.path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  // What was there stays, and the destructor writes what waits.
  Open()->Append({{"n", 3}});
  EXPECT_EQ(Lines().size(), 3u);
}

TEST_F(JsonLinesLogTest, IsWrittenWithoutFlushWithinTheInterval) {
  const auto log = Open();
  for (int i = 0; i < 2; ++i) {
    log->Append({{"n", i}});
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (Lines().size() < static_cast<size_t>(i + 1) &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(Lines().size(), static_cast<size_t>(i + 1));
  }
}

TEST_F(JsonLinesLogTest, RotatesBetweenLinesAndKeepsSoManyFiles) {
  options_.max_file_bytes = 200;
  options_.rotated_files = 2;
  const auto log = Open();
  for (int i = 0; i < 50; ++i) log->Append({{"number", i}});
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_FALSE(std::filesystem::exists(options_.path + ".3"));
  int next = -1;
  for (const char* suffix : {".2", ".1", ""}) {
    EXPECT_LE(std::filesystem::file_size(options_.path + suffix), 200u);
    for (const Json& line : Lines(suffix)) {
      if (next == -1) next = line["number"];
      EXPECT_EQ(line["number"], next++);
    }
  }
  EXPECT_EQ(next, 50);
  EXPECT_EQ(log->counts().written, 50u);
  // A line longer than a file has one of its own.
  log->Append({{"text", std::string(500, 'x')}});
  log->Append({{"number", 50}});
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_EQ(Lines(".1").size(), 1u);
  EXPECT_EQ(Lines()[0]["number"], 50);
}

TEST_F(JsonLinesLogTest, GoesOnInANewFileWhereTheOldOneWasMoved) {
  const auto log = Open();
  log->Append({{"n", 1}});
  ASSERT_TRUE(log->Flush().ok());
  std::filesystem::rename(options_.path, options_.path + ".old");
  log->Append({{"n", 2}});
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_EQ(Lines(".old").size(), 2u);
  log->Reopen();
  log->Append({{"n", 3}});
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_EQ(Lines(".old").size(), 2u);
  ASSERT_EQ(Lines().size(), 1u);
  EXPECT_EQ(Lines()[0]["n"], 3);
  // A path that can't be opened: counted, and nothing is lost.
  std::filesystem::rename(options_.path, options_.path + ".3");
  std::filesystem::create_directory(options_.path);
  log->Reopen();
  log->Append({{"n", 4}});
  (void)log->Flush();
  EXPECT_TRUE(log->Flush().ok());
  EXPECT_EQ(Lines(".3").size(), 2u);
  EXPECT_EQ(log->counts().failures, 1u);
}

TEST_F(JsonLinesLogTest, ATornLastLineIsEndedFirst) {
  std::ofstream(options_.path) << "{\"n\":1}\n{\"n\":";
  Open()->Append({{"n", 2}});
  std::ifstream file(options_.path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  EXPECT_EQ(lines,
            (std::vector<std::string>{"{\"n\":1}", "{\"n\":", "{\"n\":2}"}));
}

TEST_F(JsonLinesLogTest, AWriteThatFailsIsCountedToldAndTriedAgain) {
  const auto log = Open();
  ArmFailpoint("json_lines_log.write", FailAction::kError);
  log->Append({{"n", 1}});
  EXPECT_FALSE(log->Flush().ok());
  EXPECT_EQ(log->counts().failures, 1u);
  log->Append({{"n", 2}});
  EXPECT_TRUE(log->Flush().ok());
  ASSERT_EQ(Lines().size(), 2u);
  EXPECT_EQ(Lines()[0]["n"], 1);
}

// The kernel's own refusal, in a process of its own, half-way in a line.
TEST_F(JsonLinesLogTest, ADiskThatFillsUpLeavesNoHalfLine) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {100, 100};
    setrlimit(RLIMIT_FSIZE, &limit);
    auto log = JsonLinesLog::Open(options_);
    if (!log.ok()) _exit(1);
    (*log)->Append({{"text", std::string(60, 'a')}});
    if (!(*log)->Flush().ok()) _exit(2);
    (*log)->Append({{"text", std::string(60, 'b')}});
    if ((*log)->Flush().ok()) _exit(3);
    _exit((*log)->counts().failures > 0 ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  ASSERT_EQ(Lines().size(), 1u);
  EXPECT_EQ(Lines()[0]["text"], std::string(60, 'a'));
}

TEST_F(JsonLinesLogTest, MemoryIsBoundedAndTheFileTellsOfWhatWasLeftOut) {
  options_.max_pending_bytes = 1000;
  // Nothing is written by itself while the loop runs.
  options_.write_interval = std::chrono::hours(1);
  const auto log = Open();
  int kept = 0;
  for (int i = 0; i < 200; ++i) kept += log->Append({{"n", i}}) ? 1 : 0;
  EXPECT_LT(kept, 200);
  EXPECT_EQ(log->counts().dropped, static_cast<uint64_t>(200 - kept));
  ASSERT_TRUE(log->Flush().ok());
  ASSERT_EQ(Lines().size(), static_cast<size_t>(kept + 1));
  EXPECT_EQ(Lines().back()["dropped_lines"], 200 - kept);
  EXPECT_TRUE(log->Append({{"n", 200}}));
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_EQ(Lines().back()["n"], 200);
}

TEST_F(JsonLinesLogTest, ManyThreadsLoseNothing) {
  {
    const auto log = Open();
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&log, t] {
        for (int i = 0; i < 500; ++i) {
          EXPECT_TRUE(log->Append({{"thread", t}, {"n", i}}));
          if (i % 100 == 0) {
            EXPECT_TRUE(log->Flush().ok());
          }
          if (i == 250 && t == 0) log->Reopen();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  std::vector<int> next(4);
  for (const Json& line : Lines()) {
    EXPECT_EQ(line["n"], next[line["thread"]]++);
  }
  EXPECT_EQ(next, std::vector<int>(4, 500));
}

TEST_F(JsonLinesLogTest, WhatIsNoFileIsRefusedInOneLine) {
  ASSERT_EQ(mkfifo(options_.path.c_str(), 0600), 0);
  const auto fifo = JsonLinesLog::Open(options_);
  EXPECT_TRUE(absl::IsInvalidArgument(fifo.status()));
  EXPECT_TRUE(absl::StartsWith(fifo.status().message(), options_.path));
  options_.path = folder_ + "/none/log";
  EXPECT_TRUE(absl::IsInvalidArgument(JsonLinesLog::Open(options_).status()));
}

TEST(FormatLogTimeTest, IsUtcWithMilliseconds) {
  EXPECT_EQ(FormatLogTime(1795726820.1234), "2026-11-26T21:00:20.123Z");
}

}  // namespace
}  // namespace descant
