// Rows 1 to 25 of the project's table of bad inputs, over real gRPC: each gets
// its code and its reason, leaves nothing behind, and changes nothing for a
// neighbour. Continued uploads in hostile hands as well.
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/test_server.h"
#include "tests/server/upload_stream.h"

namespace descant {
namespace {

using grpc::StatusCode;

// One server for all cases, with one good adapter whose tokens are known.
class BadUploadsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new TestServer;
    ASSERT_TRUE(server_->Upload("neighbour", 7).ok());
    expected_ = new std::vector<int32_t>(server_->Tokens("neighbour", 40));
    ASSERT_EQ(expected_->size(), 40u);
  }
  static void TearDownTestSuite() {
    std::printf("%d concrete cases\n", cases_);
    delete server_;
    delete expected_;
  }

  void TearDown() override {
    EXPECT_EQ(server_->Tokens("neighbour", 40), *expected_);
    EXPECT_TRUE(NothingIsStaged(server_));
  }

  static void Expect(const std::string& what, const grpc::Status& status,
                     StatusCode code, const std::string& reason) {
    ++cases_;
    EXPECT_EQ(status.error_code(), code)
        << what << ": " << status.error_message();
    EXPECT_EQ(ReasonIn(status), reason)
        << what << ": " << status.error_message();
    for (const char* secret : {"/tmp", "staging", "neighbour", "0x"}) {
      EXPECT_FALSE(absl::StrContains(status.error_message(), secret))
          << what << ": " << status.error_message();
    }
  }

  // The upload is refused so, and with validate_only as well; and nothing of
  // the name "bad" is there.
  static void Refuse(const std::string& what, UploadPlan plan, StatusCode code,
                     const std::string& reason) {
    Expect(what, server_->Send(plan), code, reason);
    if (!plan.messages.empty() && plan.messages[0].has_header()) {
      plan.header()->set_validate_only(true);
      Expect(what + ", only to be checked", server_->Send(plan), code, reason);
    }
    v1::GetAdapterResponse found;
    EXPECT_EQ(GetAdapter(server_, "bad", &found).error_code(),
              StatusCode::NOT_FOUND)
        << what;
  }

  static void RefuseHeader(
      const std::string& what,
      const std::function<void(v1::UploadAdapterHeader*)>& change,
      StatusCode code, const std::string& reason) {
    UploadPlan plan = server_->PlanUpload("bad", 1);
    change(plan.header());
    Refuse(what, plan, code, reason);
  }

  static TestServer* server_;
  static std::vector<int32_t>* expected_;
  static int cases_;
};

TestServer* BadUploadsTest::server_ = nullptr;
std::vector<int32_t>* BadUploadsTest::expected_ = nullptr;
int BadUploadsTest::cases_ = 0;

TEST_F(BadUploadsTest, Streams) {  // rows 1 to 5, 9, 10
  const UploadPlan good = server_->PlanUpload("bad", 1);
  const auto refuse = [](const std::string& what, const UploadPlan& plan,
                         const std::string& reason) {
    Refuse(what, plan, StatusCode::INVALID_ARGUMENT, reason);
  };
  UploadPlan plan = good;
  plan.messages.erase(plan.messages.begin());
  refuse("chunk first", plan, "UPLOAD_PROTOCOL");
  plan = good;
  plan.messages.insert(plan.messages.begin() + 1, plan.messages[0]);
  refuse("two headers", plan, "UPLOAD_PROTOCOL");
  plan = good;
  plan.messages.push_back(plan.messages[0]);
  refuse("a header at the end", plan, "UPLOAD_PROTOCOL");
  plan = good;
  plan.messages.resize(1);
  refuse("header only", plan, "UPLOAD_TRUNCATED");
  plan.messages.clear();
  refuse("nothing", plan, "UPLOAD_PROTOCOL");
  plan = good;
  plan.messages.pop_back();
  refuse("too few bytes", plan, "UPLOAD_TRUNCATED");
  plan = good;
  plan.messages.back().mutable_chunk()->pop_back();
  refuse("one byte less", plan, "UPLOAD_TRUNCATED");
  plan = good;
  plan.messages.emplace_back().set_chunk("x");
  refuse("one byte over", plan, "UPLOAD_OVERRUN");
  plan = good;
  plan.messages[1].mutable_chunk()->append(good.Bytes());
  refuse("twice the bytes", plan, "UPLOAD_OVERRUN");
  plan = good;
  plan.messages.resize(1);
  for (int i = 0; i < 64; ++i) plan.messages.emplace_back().set_chunk("");
  refuse("empty chunks", plan, "UPLOAD_PROTOCOL");
  plan.messages.resize(1);
  for (int i = 0; i < 64; ++i) plan.messages.emplace_back();
  refuse("empty messages", plan, "UPLOAD_PROTOCOL");
  plan = good;
  plan.header()->set_size_bytes(8 << 20);
  plan.messages[1].set_chunk(std::string(3 << 20, 'x'));
  refuse("a chunk of 3 MiB", plan, "UPLOAD_PROTOCOL");
  // gRPC's own answer.
  plan.messages[1].set_chunk(std::string(5 << 20, 'x'));
  Refuse("a chunk of 5 MiB", plan, StatusCode::RESOURCE_EXHAUSTED, "");
}

TEST_F(BadUploadsTest, SizesAndHashes) {  // rows 6, 7
  for (const uint64_t size :
       {uint64_t{1} << 63, ~uint64_t{0}, (uint64_t{64} << 20) + 1}) {
    RefuseHeader(
        absl::StrCat("size ", size),
        [&](auto* header) { header->set_size_bytes(size); },
        StatusCode::RESOURCE_EXHAUSTED, "UPLOAD_TOO_LARGE");
  }
  RefuseHeader(
      "no size", [](auto* header) { header->clear_size_bytes(); },
      StatusCode::INVALID_ARGUMENT, "UPLOAD_SIZE_MISSING");
  for (const std::string& sha :
       {std::string(), std::string(63, 'a'), std::string(65, 'a'),
        std::string(64, 'g'), std::string(64, 'A'), std::string(64, '\0')}) {
    RefuseHeader(
        "sha256 " + sha, [&](auto* header) { header->set_sha256(sha); },
        StatusCode::INVALID_ARGUMENT, "UPLOAD_SHA256_INVALID");
  }
  RefuseHeader(
      "another sha256",
      [](auto* header) { header->set_sha256(std::string(64, '0')); },
      StatusCode::INVALID_ARGUMENT, "UPLOAD_SHA256_MISMATCH");
}

TEST_F(BadUploadsTest, OneByteChunksOfAMebibyte) {  // row 8
  UploadPlan plan = server_->PlanUpload("bytewise", 2, 216);
  ASSERT_GE(plan.Bytes().size(), 1u << 20);
  plan.Rechunk(1);
  const auto start = std::chrono::steady_clock::now();
  v1::UploadAdapterResponse response;
  Expect("one byte a chunk", server_->Send(plan, &response), StatusCode::OK,
         "");
  const auto took = std::chrono::steady_clock::now() - start;
  std::printf("%zu chunks of one byte: %.1f s\n", plan.messages.size() - 1,
              ToSeconds(took));
  plan.Rechunk(1 << 20);
  v1::UploadAdapterResponse whole;
  ASSERT_TRUE(server_->Send(plan, &whole).ok());
  EXPECT_FALSE(whole.created());
  EXPECT_EQ(whole.adapter().digest(), response.adapter().digest());
}

TEST_F(BadUploadsTest, AClientThatStops) {  // rows 11, 12
  TestServer server({.upload_idle_timeout = std::chrono::milliseconds(300)});
  const UploadPlan plan = server.PlanUpload("slow", 1);
  UploadStream stream(&server, plan.messages[0].header());
  stream.Send(plan.messages[1].chunk());
  Expect("idle", stream.Finish(), StatusCode::DEADLINE_EXCEEDED, "UPLOAD_IDLE");
  EXPECT_TRUE(NothingIsStaged(&server)) << "it has no upload_id";

  const UploadPlan cancelled = server_->PlanUpload("bad", 3);
  for (size_t messages : {0, 1, 3}) {
    UploadStream gone(server_, cancelled.messages[0].header());
    for (size_t i = 1; i <= messages; ++i) {
      gone.Send(cancelled.messages[i].chunk());
    }
    Expect("cancelled", gone.Cancel(), StatusCode::CANCELLED, "");
  }
  EXPECT_TRUE(NothingIsStaged(server_));
  v1::GetAdapterResponse found;
  Expect("then get", GetAdapter(server_, "bad", &found), StatusCode::NOT_FOUND,
         "ADAPTER_NOT_FOUND");
}

TEST_F(BadUploadsTest, AFullDisk) {  // row 14
  std::string folder =
      (std::filesystem::temp_directory_path() / "full-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  if (mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=512k") != 0) {
    std::filesystem::remove(folder);
    GTEST_SKIP() << "mounting a small disk takes privileges";
  }
  {
    TestServer server({.adapter_dir = folder});
    ASSERT_TRUE(server.Upload("small", 1).ok());
    const std::vector<int32_t> tokens = server.Tokens("small", 20);
    for (int i = 0; i < 2; ++i) {
      UploadPlan plan = server.PlanUpload("large", 2, 216);
      plan.header()->set_upload_id("a-large-upload");
      Expect("disk full", server.Send(plan), StatusCode::RESOURCE_EXHAUSTED,
             "STORE_FULL");
      EXPECT_TRUE(NothingIsStaged(&server));
    }
    EXPECT_EQ(server.Tokens("small", 20), tokens) << "serving goes on";
    EXPECT_TRUE(server.Upload("other", 3).ok()) << "so do small uploads";
  }
  EXPECT_EQ(umount(folder.c_str()), 0);
  std::filesystem::remove(folder);
}

TEST_F(BadUploadsTest, SameNameAgain) {  // rows 15, 16
  v1::UploadAdapterResponse first;
  v1::UploadAdapterResponse again;
  Expect("first", server_->Send(server_->PlanUpload("again", 4), &first),
         StatusCode::OK, "");
  EXPECT_TRUE(first.created());
  Expect("same", server_->Send(server_->PlanUpload("again", 4), &again),
         StatusCode::OK, "");
  EXPECT_FALSE(again.created());
  EXPECT_EQ(first.adapter().SerializeAsString(),
            again.adapter().SerializeAsString());
  UploadPlan other = server_->PlanUpload("again", 5);
  Expect("other", server_->Send(other), StatusCode::ALREADY_EXISTS,
         "ADAPTER_EXISTS");
  other.header()->set_replace(true);
  Expect("replace", server_->Send(other, &again), StatusCode::OK, "");
  EXPECT_TRUE(again.created());
  EXPECT_NE(first.adapter().digest(), again.adapter().digest());
  EXPECT_GT(again.adapter().version(), first.adapter().version());
}

TEST_F(BadUploadsTest, ExpectedVersions) {  // rows 17, 18
  UploadPlan plan = server_->PlanUpload("race", 1);
  plan.header()->set_expected_version(1);
  Expect("of no adapter", server_->Send(plan), StatusCode::ABORTED,
         "ADAPTER_VERSION_MISMATCH");
  plan.header()->set_expected_version(0);
  v1::UploadAdapterResponse stored;
  Expect("0, and none is there", server_->Send(plan, &stored), StatusCode::OK,
         "");
  const uint64_t version = stored.adapter().version();
  plan = server_->PlanUpload("race", 2);
  for (const uint64_t stale : {uint64_t{0}, version + 1, ~uint64_t{0}}) {
    plan.header()->set_expected_version(stale);
    Expect(absl::StrCat("stale ", stale), server_->Send(plan),
           StatusCode::ABORTED, "ADAPTER_VERSION_MISMATCH");
  }
  // Two at once: one wins.
  std::vector<grpc::Status> results(2);
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      UploadPlan racer = server_->PlanUpload("race", 10 + i);
      racer.header()->set_expected_version(version);
      results[i] = server_->Send(racer);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const bool first_won = results[0].ok();
  Expect("winner", results[first_won ? 0 : 1], StatusCode::OK, "");
  Expect("loser", results[first_won ? 1 : 0], StatusCode::ABORTED,
         "ADAPTER_VERSION_MISMATCH");
}

TEST_F(BadUploadsTest, DuringADrain) {  // row 19
  TestServer server;
  server.app().edge()->draining = true;
  UploadPlan plan = server.PlanUpload("late", 1);
  for (const bool with_id : {false, true}) {
    if (with_id) plan.header()->set_upload_id("a-late-upload");
    const grpc::Status status = server.Send(plan);
    Expect("late", status, StatusCode::UNAVAILABLE, "DRAINING");
    EXPECT_TRUE(HasRetryInfo(status));
  }
}

TEST_F(BadUploadsTest, Names) {  // rows 20 to 22, 24, 25
  const std::vector<std::string> names = {"",
                                          " ",
                                          "\t",
                                          "\n",
                                          "..",
                                          "../etc",
                                          "a/../b",
                                          "/etc/passwd",
                                          "a/",
                                          "a\\b",
                                          "%2e%2e",
                                          "a..b",
                                          ".a",
                                          "-a",
                                          "a,b",
                                          "a@b",
                                          std::string("a\0b", 3),
                                          "a\x01",
                                          "\x1b[31mred",
                                          "\u202eright",
                                          "\U0001f600",
                                          std::string(64, 'a'),
                                          std::string(1 << 20, 'a')};
  for (const std::string& name : names) {
    RefuseHeader(
        "name " + name.substr(0, 70),
        [&](auto* header) { header->set_name(name); },
        StatusCode::INVALID_ARGUMENT, "ADAPTER_NAME_INVALID");
  }
  for (const std::string& name :
       {std::string("base"), std::string("none"), std::string("NONE"),
        server_->app().edge()->facts.name}) {
    RefuseHeader(
        "name " + name, [&](auto* header) { header->set_name(name); },
        StatusCode::INVALID_ARGUMENT, "ADAPTER_NAME_RESERVED");
  }
  Expect("63 characters",
         server_->Send(server_->PlanUpload(std::string(63, 'a'), 1)),
         StatusCode::OK, "");
}

// Row 23: not valid UTF-8 in a string is not a valid message. gRPC does not
// hand it over: the stream ends there.
TEST_F(BadUploadsTest, StringsThatAreNoUtf8) {
  UploadPlan plan = server_->PlanUpload("x", 1);
  for (const char* name : {"\xff", "a\xc3", "\xed\xa0\x80"}) {
    plan.header()->set_name(name);
    Expect("not UTF-8", server_->Send(plan), StatusCode::INVALID_ARGUMENT,
           "UPLOAD_PROTOCOL");
  }
}

TEST_F(BadUploadsTest, HeadersThatContradict) {
  RefuseHeader(
      "another base",
      [](auto* header) {
        header->set_base_fingerprint("sha256:" + std::string(64, '0'));
      },
      StatusCode::FAILED_PRECONDITION, "BASE_MISMATCH");
  RefuseHeader(
      "a long fingerprint",
      [](auto* header) {
        header->set_base_fingerprint(std::string(3 << 20, 'x'));
      },
      StatusCode::INVALID_ARGUMENT, "FIELD_INVALID");
  RefuseHeader(
      "unknown format",
      [](auto* header) {
        header->set_format(static_cast<v1::AdapterFormat>(9));
      },
      StatusCode::INVALID_ARGUMENT, "FIELD_INVALID");
  RefuseHeader(
      "long config",
      [](auto* header) { header->set_config_json(std::string(65537, ' ')); },
      StatusCode::INVALID_ARGUMENT, "ADAPTER_CONFIG_INVALID");
  RefuseHeader(
      "GGUF with a config",
      [](auto* header) { header->set_format(v1::ADAPTER_FORMAT_GGUF); },
      StatusCode::INVALID_ARGUMENT, "ADAPTER_CONFIG_INVALID");
  RefuseHeader(
      "an offset without an id", [](auto* header) { header->set_offset(1); },
      StatusCode::INVALID_ARGUMENT, "UPLOAD_ID_INVALID");
}

TEST_F(BadUploadsTest, Labels) {
  using Label = std::pair<std::string, std::string>;
  const std::vector<Label> bad = {{"", "x"},
                                  {" ", "x"},
                                  {".a", "x"},
                                  {"a..b", "x"},
                                  {"a/b", "x"},
                                  {"k\u00e9y", "x"},
                                  {std::string(64, 'k'), "x"},
                                  {std::string(1 << 20, 'k'), "x"},
                                  {"k", std::string(257, 'v')},
                                  {"k", std::string(1 << 20, 'v')},
                                  {"k", "a\nb"},
                                  {"k", std::string("a\0b", 3)},
                                  {"k", "\x1b[31m"},
                                  {"k", "\x7f"},
                                  {"k", "\u0085"}};
  for (const auto& [key, value] : bad) {
    RefuseHeader(
        absl::StrCat("label ", key.substr(0, 70), "=", value.substr(0, 20)),
        [&](auto* header) { (*header->mutable_labels())[key] = value; },
        StatusCode::INVALID_ARGUMENT, "LABEL_INVALID");
  }
  RefuseHeader(
      "17 labels",
      [](auto* header) {
        for (int i = 0; i < 17; ++i) {
          (*header->mutable_labels())[absl::StrCat("k", i)] = "";
        }
      },
      StatusCode::INVALID_ARGUMENT, "LABEL_INVALID");
  UploadPlan plan = server_->PlanUpload("labelled", 1);
  for (int i = 0; i < 15; ++i) {
    (*plan.header()->mutable_labels())[absl::StrCat("k", i)] = "";
  }
  (*plan.header()->mutable_labels())[std::string(63, 'k')] =
      "\u00fc\u4e16\U0001f600" + std::string(247, 'v');
  v1::UploadAdapterResponse response;
  Expect("16 labels, as long as may be", server_->Send(plan, &response),
         StatusCode::OK, "");
  EXPECT_EQ(response.adapter().labels_size(), 16);
}

TEST_F(BadUploadsTest, ContinuedByTheWrongHands) {
  for (const std::string& id :
       {std::string(), std::string(7, 'a'), std::string(65, 'a'),
        std::string("../../etc"), std::string("abcdefg "),
        std::string("abcdefg\0", 8), std::string("\u00fcmlauts!"),
        std::string(1 << 20, 'a')}) {
    RefuseHeader(
        "id " + id.substr(0, 70),
        [&](auto* header) { header->set_upload_id(id); },
        StatusCode::INVALID_ARGUMENT, "UPLOAD_ID_INVALID");
    v1::QueryUploadResponse query;
    Expect("query " + id.substr(0, 70), QueryUpload(server_, id, &query),
           StatusCode::INVALID_ARGUMENT, "UPLOAD_ID_INVALID");
  }
  for (const uint64_t offset :
       {uint64_t{1}, uint64_t{4096}, uint64_t{1} << 63, ~uint64_t{0}}) {
    RefuseHeader(
        absl::StrCat("offset ", offset, " of nothing"),
        [&](auto* header) {
          header->set_upload_id("never-begun");
          header->set_offset(offset);
        },
        StatusCode::NOT_FOUND, "UPLOAD_UNKNOWN");
  }
  v1::QueryUploadResponse query;
  Expect("query of nothing", QueryUpload(server_, "never-begun", &query),
         StatusCode::NOT_FOUND, "UPLOAD_UNKNOWN");
}

// What breaks the rules of a stream ends its upload too.
TEST_F(BadUploadsTest, AContinuedUploadThatMisbehavesIsForgotten) {
  UploadPlan plan = server_->PlanUpload("bad", 1);
  plan.header()->set_upload_id("misbehaving");
  const std::string bytes = plan.Bytes();
  const auto forgotten = [&](const std::string& what) {
    v1::QueryUploadResponse query;
    Expect(what + ", then query", QueryUpload(server_, "misbehaving", &query),
           StatusCode::NOT_FOUND, "UPLOAD_UNKNOWN");
  };
  const auto part = [&](const std::string& sent) {
    auto stream = std::make_unique<UploadStream>(server_, *plan.header());
    stream->Send(sent);
    return stream;
  };
  Expect("stops", part(bytes.substr(0, 100))->Close(),
         StatusCode::INVALID_ARGUMENT, "UPLOAD_TRUNCATED");
  plan.header()->set_offset(100);
  Expect("runs over", part(bytes)->Finish(), StatusCode::INVALID_ARGUMENT,
         "UPLOAD_OVERRUN");
  forgotten("runs over");
  plan.header()->set_offset(0);
  plan.header()->set_sha256(std::string(64, '0'));
  Expect("other bytes", part(bytes)->Close(), StatusCode::INVALID_ARGUMENT,
         "UPLOAD_SHA256_MISMATCH");
  forgotten("other bytes");
  plan.header()->clear_sha256();
  Expect("no safetensors", part(std::string(bytes.size(), 'x'))->Close(),
         StatusCode::INVALID_ARGUMENT, "SAFETENSORS_HEADER_LENGTH");
  forgotten("no safetensors");
}

}  // namespace
}  // namespace descant
