#include "server/audit_log.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/reason.h"
#include "server/limits.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/file_size_limit.h"

namespace descant {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AuditLogTest : public ::testing::Test {
 protected:
  AuditLogTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "audit-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    options_.path = folder_ + "/audit.jsonl";
  }
  ~AuditLogTest() override {
    log_.reset();
    std::filesystem::remove_all(folder_);
  }

  AuditLog& Open() {
    auto log = AuditLog::Open(options_, &clock_);
    EXPECT_TRUE(log.ok()) << log.status();
    log_ = *std::move(log);
    return *log_;
  }
  // All lines, after the log has ended.
  std::vector<Json> Lines() {
    log_.reset();
    std::vector<Json> lines;
    std::ifstream file(options_.path);
    for (std::string line; std::getline(file, line);) {
      lines.push_back(Json::parse(line));
    }
    return lines;
  }

  FakeClock clock_;
  std::string folder_;
  AuditLogOptions options_;
  std::unique_ptr<AuditLog> log_;
};

TEST_F(AuditLogTest, ALineSaysWhoDidWhat) {
  auto acme = std::make_shared<Tenant>();
  acme->id = "acme";
  AuditEvent event;
  event.event = "replace";
  event.identity = {acme, IdentityKind::kApiKey, "k1"};
  event.peer = "ipv4:10.0.0.7:4711";
  event.rpc = "UploadAdapter";
  event.name = "support";
  event.digest = "sha256:00";
  event.size = 1234;
  event.lists = {{"added", {"acme/k2"}}, {"removed", {}}};
  Open().Record(event);
  log_->Record({.event = "drain"});
  const std::vector<Json> lines = Lines();
  ASSERT_EQ(lines.size(), 2u);
  Json first = lines[0];
  EXPECT_EQ(first["time"].get<std::string>().back(), 'Z');
  first.erase("time");
  EXPECT_EQ(first, Json::parse(R"({"seq":1,"event":"replace","code":"OK",
      "tenant":"acme","identity":"api_key","key_id":"k1",
      "peer":"ipv4:10.0.0.7:4711","rpc":"UploadAdapter","name":"support",
      "digest":"sha256:00","size":1234,"added":["acme/k2"]})"));
  Json second = lines[1];
  second.erase("time");
  EXPECT_EQ(second, Json::parse(R"({"seq":2,"event":"drain","code":"OK"})"));
}

TEST_F(AuditLogTest, TextsAreEscapedAndCut) {
  AuditEvent event;
  event.event = "delete";
  event.name = "a\"}\n{\"event\":\"forged\x1b[2J\xff";
  event.peer = std::string(100000, 'p');
  event.lists = {{"added", std::vector<std::string>(1000, "x")}};
  Open().Record(event);
  const std::vector<Json> lines = Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0]["event"], "delete");
  EXPECT_THAT(lines[0]["name"].get<std::string>(), HasSubstr("forged"));
  EXPECT_EQ(lines[0]["peer"].get<std::string>().size(), limits::kMaxAuditText);
  EXPECT_EQ(lines[0]["added"].size(), limits::kMaxAuditItems);
  std::ifstream file(options_.path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_LT(text.size(), 2000u);
  for (const char c : text) EXPECT_TRUE(c == '\n' || (c >= ' ' && c <= '~'));
}

TEST_F(AuditLogTest, FailuresAreBoundedAndCounted) {
  AuditLog& log = Open();
  const AuditEvent failure{.event = "auth_failure",
                           .code = absl::StatusCode::kUnauthenticated};
  for (int i = 0; i < 10000; ++i) log.RecordFailure(failure);
  // Others are told of at any rate.
  for (int i = 0; i < 200; ++i) log.Record({.event = "delete"});
  clock_.Advance(std::chrono::seconds(1));
  log.RecordFailure(failure);
  for (int i = 0; i < 20; ++i) log.RecordFailure(failure);
  clock_.Advance(std::chrono::seconds(1));
  log.Tick();
  log.Tick();
  size_t failures = 0;
  size_t deletes = 0;
  std::vector<uint64_t> left_out;
  uint64_t sequence = 0;
  for (const Json& line : Lines()) {
    EXPECT_EQ(line["seq"], ++sequence);
    failures += line["event"] == "auth_failure";
    deletes += line["event"] == "delete";
    if (line.contains("left_out")) left_out.push_back(line["left_out"]);
  }
  EXPECT_EQ(deletes, 200u);
  // The burst, ten of the first second, and one that only tells.
  EXPECT_EQ(failures, 100u + 10u + 1u);
  EXPECT_THAT(left_out, ElementsAre(9900u, 11u));
}

TEST_F(AuditLogTest, OpenRefusesWhatIsNoFile) {
  options_.path = folder_;
  EXPECT_EQ(AuditLog::Open(options_, &clock_).status().code(),
            absl::StatusCode::kInvalidArgument);
  options_.path = folder_ + "/none/audit.jsonl";
  EXPECT_FALSE(AuditLog::Open(options_, &clock_).ok());
}

TEST_F(AuditLogTest, ByDefaultNobodyWaitsForTheDisk) {
  AuditLog& log = Open();
  const FileSizeLimit full(0);
  log.Record({.event = "delete"});
  EXPECT_TRUE(log.Commit().ok());
  while (log.counts().failures == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  log.Tick();
  EXPECT_TRUE(log.CheckWritable().ok());
}

TEST_F(AuditLogTest, FailClosedRefusesUntilAWriteSucceeds) {
  options_.fail_closed = true;
  AuditLog& log = Open();
  log.Record({.event = "start"});
  EXPECT_TRUE(log.Commit().ok());
  EXPECT_TRUE(log.CheckWritable().ok());
  {
    const FileSizeLimit full(std::filesystem::file_size(options_.path));
    log.Record({.event = "delete"});
    for (const absl::Status& status : {log.Commit(), log.CheckWritable()}) {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_EQ(ReasonOf(status), "AUDIT_UNAVAILABLE");
    }
    log.Tick();
    EXPECT_FALSE(log.CheckWritable().ok());
    EXPECT_GT(log.counts().failures, 0u);
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!log.CheckWritable().ok() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    log.Tick();
  }
  EXPECT_TRUE(log.CheckWritable().ok());
  EXPECT_TRUE(log.Commit().ok());
  // Nothing was lost; that writing failed may be told of more than once.
  std::vector<std::string> events;
  for (const Json& line : Lines()) {
    if (line["event"] != "audit_write_failed") events.push_back(line["event"]);
  }
  EXPECT_THAT(events, ElementsAre("start", "delete"));
}

}  // namespace
}  // namespace descant
