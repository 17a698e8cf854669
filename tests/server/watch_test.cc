// WatchAdapters, through real gRPC.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/limits.h"
#include "tests/server/test_server.h"

namespace descant {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

class Watch {
 public:
  explicit Watch(TestServer* server, const std::string& name = "",
                 const std::string& key = "") {
    context_.set_deadline(std::chrono::system_clock::now() + kPatience);
    if (!key.empty()) {
      context_.AddMetadata("authorization", absl::StrCat("Bearer ", key));
    }
    v1::WatchAdaptersRequest request;
    request.set_name(name);
    reader_ = server->adapters().WatchAdapters(&context_, request);
  }
  ~Watch() {
    context_.TryCancel();
    if (!finished_) reader_->Finish();
  }

  // The next event as text, "PUBLISHED a"; the status's code at the end.
  std::string Next() {
    v1::WatchAdaptersResponse response;
    if (!reader_->Read(&response)) {
      const grpc::Status status = Finish();
      return absl::StrCat("end ", status.error_code(), " ", ReasonIn(status));
    }
    last_ = response.adapter();
    std::string event = v1::AdapterEvent_Name(response.event());
    event = event.substr(std::string("ADAPTER_EVENT_").size());
    return last_.name().empty() ? event
                                : absl::StrCat(event, " ", last_.name());
  }
  // Reads on until `event`; false at the stream's end.
  bool Await(const std::string& event) {
    while (true) {
      const std::string next = Next();
      if (next == event) return true;
      if (next.substr(0, 4) == "end ") return false;
    }
  }
  grpc::Status Finish() {
    finished_ = true;
    return reader_->Finish();
  }
  const v1::Adapter& last() const { return last_; }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchAdaptersResponse>> reader_;
  v1::Adapter last_;
  bool finished_ = false;
};

grpc::Status Delete(TestServer* server, const std::string& name) {
  grpc::ClientContext context;
  v1::DeleteAdapterRequest request;
  request.set_adapter_id(name);
  v1::DeleteAdapterResponse response;
  return server->adapters().DeleteAdapter(&context, request, &response);
}

TEST(WatchTest, WhatThereIsThenWhatChanges) {
  TestServer server;
  ASSERT_TRUE(server.Upload("a", 1).ok());
  ASSERT_TRUE(server.Upload("b", 2).ok());
  Watch watch(&server);
  EXPECT_EQ(watch.Next(), "EXISTING a");
  EXPECT_EQ(watch.last().state(), v1::ADAPTER_STATE_READY);
  EXPECT_EQ(watch.last().level(), v1::ADAPTER_LEVEL_DISK);
  EXPECT_FALSE(watch.last().digest().empty());
  EXPECT_EQ(watch.Next(), "EXISTING b");
  EXPECT_EQ(watch.Next(), "SYNCED");

  ASSERT_TRUE(server.Upload("c", 3).ok());
  EXPECT_EQ(watch.Next(), "PUBLISHED c");
  const uint64_t first = watch.last().version();
  UploadPlan plan = server.PlanUpload("c", 4);
  plan.header()->set_replace(true);
  ASSERT_TRUE(server.Send(plan).ok());
  EXPECT_EQ(watch.Next(), "PUBLISHED c");
  EXPECT_GT(watch.last().version(), first);
  // The same content again is no change.
  ASSERT_TRUE(server.Send(plan).ok());
  ASSERT_TRUE(Delete(&server, "b").ok());
  EXPECT_EQ(watch.Next(), "DELETED b");
}

TEST(WatchTest, SaysWhereTensorsAre) {
  TestServer server;
  ASSERT_TRUE(server.Upload("a", 1).ok());
  Watch watch(&server);
  ASSERT_TRUE(watch.Await("SYNCED"));
  ASSERT_FALSE(server.Tokens("a", 4).empty());
  do {
    ASSERT_TRUE(watch.Await("CHANGED a"));
  } while (watch.last().level() != v1::ADAPTER_LEVEL_DEVICE);
}

TEST(WatchTest, OneName) {
  TestServer server;
  ASSERT_TRUE(server.Upload("a", 1).ok());
  ASSERT_TRUE(server.Upload("b", 2).ok());
  Watch watch(&server, "b");
  Watch none(&server, "nobody");
  EXPECT_EQ(watch.Next(), "EXISTING b");
  EXPECT_EQ(watch.Next(), "SYNCED");
  EXPECT_EQ(none.Next(), "SYNCED");
  ASSERT_TRUE(Delete(&server, "a").ok());
  ASSERT_TRUE(Delete(&server, "b").ok());
  EXPECT_EQ(watch.Next(), "DELETED b");
  EXPECT_EQ(Watch(&server, "../b").Next(), "end 3 ADAPTER_NAME_INVALID");
  EXPECT_EQ(
      Watch(&server, absl::StrCat("a@sha256:", std::string(64, '0'))).Next(),
      "end 3 FIELD_INVALID");
}

TEST(WatchTest, TooManyAreRefused) {
  TestServer server;
  std::vector<std::unique_ptr<Watch>> watches;
  for (int i = 0; i < limits::kMaxWatches; ++i) {
    watches.push_back(std::make_unique<Watch>(&server));
    EXPECT_EQ(watches.back()->Next(), "SYNCED");
  }
  EXPECT_EQ(Watch(&server).Next(), "end 8 WATCH_LIMIT");
  // One that ends makes room; the server hears of it a little later.
  watches.pop_back();
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (Watch(&server).Next() != "SYNCED") {
    ASSERT_LT(std::chrono::steady_clock::now(), end);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

// A reader that takes nothing: the queue is bounded, and the stream ends.
TEST(WatchTest, AReaderThatFallsBehindIsEnded) {
  TestServer server;
  ASSERT_TRUE(server.Upload("a", 1).ok());
  auto channel = server.NewChannel(1024);
  const auto stub = v1::AdapterService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  const auto reader = stub->WatchAdapters(&context, {});
  v1::WatchAdaptersResponse response;
  do {
    ASSERT_TRUE(reader->Read(&response));
  } while (response.event() != v1::ADAPTER_EVENT_SYNCED);
  AdapterFeed* feed = server.app().edge()->feed;
  for (size_t i = 0; i < 100 * limits::kMaxWatchPending; ++i) {
    feed->Publish({AdapterChange::kDeleted, "", absl::StrCat("gone", i),
                   absl::StrCat("sha256:", i)});
  }
  while (reader->Read(&response)) {
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonIn(status), "WATCH_FELL_BEHIND");
  EXPECT_FALSE(server.Tokens("a", 2).empty());
}

TEST(WatchTest, ADrainEndsWatches) {
  TestServer server;
  Watch watch(&server);
  EXPECT_EQ(watch.Next(), "SYNCED");
  std::thread drain([&] { server.Drain(std::chrono::seconds(10)); });
  // UNAVAILABLE, or CANCELLED by the end of the listener.
  const std::string end = watch.Next();
  EXPECT_TRUE(end == "end 14 DRAINING" || end.substr(0, 5) == "end 1") << end;
  drain.join();
}

}  // namespace
}  // namespace descant
