// The tiers of adapters: loads, prefetch, pins, unloads, shares.
#include "tests/runtime/residency_fixture.h"

namespace descant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(EngineResidencyTest, ALoadPassesHostMemoryAndIsCounted) {
  Start();
  const auto a = disk_.Stored("a");
  EXPECT_EQ(Level(*a), AdapterLevel::kDisk);
  const Request request = Make(3, 5, a);
  ExpectAlone(request, Submit(request).get());
  for (int i = 0; i < 2; ++i) {
    const Request again = Make(3, 5, a);
    ExpectAlone(again, Submit(again).get());
  }
  WaitUntilIdle();
  EXPECT_EQ(Level(*a), AdapterLevel::kDevice);
  EXPECT_EQ(disk_.reads("a"), 1);
  EXPECT_THAT(TakeEvents(), ElementsAre("a:host10", "a:device10"));
  const EngineStats stats = engine_->Stats();
  EXPECT_EQ(stats.adapter_loads, 1u);
  EXPECT_EQ(stats.device_misses, 1u);
  EXPECT_EQ(stats.device_hits, 2u);
  EXPECT_EQ(stats.host_bytes, 10u);
  EXPECT_EQ(stats.device_bytes, 10u);
  EXPECT_EQ(stats.host_adapters, 1);
  EXPECT_EQ(timed(AdapterLevel::kHost), 1);
  EXPECT_EQ(timed(AdapterLevel::kDevice), 1);
  const auto list = engine_->ResidentAdapters();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].name, "a");
  EXPECT_EQ(list[0].level, AdapterLevel::kDevice);
}

TEST_F(EngineResidencyTest, WhatLeavesItsSlotComesBackWithoutTheDisk) {
  runner_options_.limits.max_slots = 1;
  Start();
  for (int round = 0; round < 3; ++round) {
    for (const char* name : {"a", "b", "c"}) {
      const Request request = Make(3, 3, disk_.Stored(name));
      ExpectAlone(request, Submit(request).get());
    }
  }
  WaitUntilIdle();
  for (const char* name : {"a", "b", "c"}) EXPECT_EQ(disk_.reads(name), 1);
  EXPECT_EQ(Level(*disk_.Stored("a")), AdapterLevel::kHost);
  EXPECT_EQ(Level(*disk_.Stored("c")), AdapterLevel::kDevice);
  EXPECT_EQ(engine_->Stats().adapter_evictions, 8u);
  EXPECT_EQ(engine_->Stats().host_hits + engine_->Stats().host_misses, 9u);
}

TEST_F(EngineResidencyTest, WithoutAHostTierImagesAreUsedOnce) {
  runner_options_.limits.max_slots = 1;
  options_.host_adapter_bytes = 0;
  Start();
  for (int round = 0; round < 2; ++round) {
    for (const char* name : {"a", "b"}) {
      const Request request = Make(3, 3, disk_.Stored(name));
      ExpectAlone(request, Submit(request).get());
    }
  }
  EXPECT_EQ(disk_.reads("a"), 2);
  EXPECT_EQ(Level(*disk_.Stored("a")), AdapterLevel::kDisk);
  EXPECT_EQ(Do(AdapterAction::kLoadHost, disk_.Stored("a")).status.code(),
            absl::StatusCode::kFailedPrecondition);
}

// While it waits for a slot its image is read, once for all who wait.
TEST_F(EngineResidencyTest, PrefetchesForRequestsThatWait) {
  runner_options_.limits.max_slots = 1;
  Start();
  const Request first = Make(3, 30, disk_.Stored("a"));
  gate_.CloseAfter(2);
  const auto first_sink = Submit(first);
  gate_.WaitUntilHeld();
  const Request second = Make(3, 3, disk_.Stored("b"));
  const auto second_sink = Submit(second);
  const Request third = Make(3, 3, disk_.Stored("b"));
  const auto third_sink = Submit(third);
  gate_.Open();
  ExpectAlone(first, first_sink.get());
  ExpectAlone(second, second_sink.get());
  ExpectAlone(third, third_sink.get());
  EXPECT_EQ(disk_.reads("b"), 1);
  EXPECT_EQ(Level(*disk_.Stored("a")), AdapterLevel::kHost);
}

TEST_F(EngineResidencyTest, APrefetchNobodyWaitsForIsDropped) {
  runner_options_.limits.max_slots = 1;  // the first one's, while it loads
  Start();
  disk_.Hold("a");
  const auto first = Submit(Make(3, 3, disk_.Stored("a")));
  disk_.WaitUntilRead("a");
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 3; ++i) {
    sinks.push_back(Submit(Make(3, 3, disk_.Stored(absl::StrCat("p", i)))));
    engine_->Cancel(last_id_);
  }
  for (const auto& sink : sinks) {
    EXPECT_EQ(sink->Wait().reason, FinishReason::kCancelled);
  }
  disk_.Open();
  EXPECT_TRUE(first->Wait().status.ok());
  ExpectBytes(10, 10);
}

TEST_F(EngineResidencyTest, AFailedReadFailsItsWaitersAndIsTriedAnew) {
  Start();
  const auto bad = disk_.Stored("bad");
  disk_.Break("bad", absl::DataLossError("damaged"));
  disk_.Hold("bad");
  const auto first = Submit(Make(3, 3, bad));
  const auto second = Submit(Make(3, 3, bad));
  const int load = Begin(AdapterAction::kLoadDevice, bad);
  const int pin = Begin(AdapterAction::kPin, bad);
  const Request good = Make(3, 3, disk_.Stored("good"));
  disk_.Open();
  ExpectAlone(good, Submit(good).get());
  EXPECT_TRUE(absl::IsDataLoss(first->Wait().status));
  EXPECT_TRUE(absl::IsDataLoss(second->Wait().status));
  EXPECT_TRUE(absl::IsDataLoss(Result(load).status));
  EXPECT_TRUE(absl::IsDataLoss(Result(pin).status));
  EXPECT_TRUE(absl::IsDataLoss(Do(AdapterAction::kLoadHost, bad).status));
  bool pinned = true;
  EXPECT_EQ(Level(*bad, &pinned), AdapterLevel::kDisk);
  EXPECT_FALSE(pinned);
  disk_.Break("bad", absl::OkStatus());
  const Request again = Make(3, 3, bad);
  ExpectAlone(again, Submit(again).get());
}

TEST_F(EngineResidencyTest, LoadsToTheLevelThatIsAskedFor) {
  Start();
  const auto a = disk_.Stored("a");
  EXPECT_TRUE(Do(AdapterAction::kLoadHost, a).status.ok());
  EXPECT_EQ(Level(*a), AdapterLevel::kHost);
  EXPECT_TRUE(Do(AdapterAction::kLoadDevice, a).status.ok());
  EXPECT_EQ(Level(*a), AdapterLevel::kDevice);
  EXPECT_TRUE(Do(AdapterAction::kLoadDevice, a).status.ok());
  EXPECT_EQ(disk_.reads("a"), 1);
  // It gave its slot free: others may have it.
  for (const char* name : {"b", "c", "d"}) {
    EXPECT_TRUE(Do(AdapterAction::kLoadDevice, disk_.Stored(name)).status.ok());
  }
  EXPECT_EQ(Level(*a), AdapterLevel::kHost);
  EXPECT_THAT(TakeEvents(), ElementsAre("a:host10", "a:device10", "b:host10",
                                        "b:device10", "c:host10", "c:device10",
                                        "a:host10", "d:host10", "d:device10"));
}

TEST_F(EngineResidencyTest, PinsStayAndLeaveOneSlot) {
  Start();
  const auto a = disk_.Stored("a");
  const auto b = disk_.Stored("b");
  EXPECT_TRUE(Do(AdapterAction::kPin, a).status.ok());
  EXPECT_TRUE(Do(AdapterAction::kPin, b).status.ok());
  EXPECT_TRUE(Do(AdapterAction::kPin, b).status.ok());
  const absl::Status full = Do(AdapterAction::kPin, disk_.Stored("c")).status;
  EXPECT_TRUE(absl::IsResourceExhausted(full));
  EXPECT_EQ(ReasonOf(full), "ADAPTER_PINS_FULL");
  for (int i = 0; i < 5; ++i) {
    const Request request = Make(3, 3, disk_.Stored(absl::StrCat("x", i)));
    ExpectAlone(request, Submit(request).get());
  }
  bool pinned = false;
  EXPECT_EQ(Level(*a, &pinned), AdapterLevel::kDevice);
  EXPECT_TRUE(pinned);
  EXPECT_EQ(Level(*b), AdapterLevel::kDevice);
  EXPECT_TRUE(Do(AdapterAction::kUnpin, a).status.ok());
  EXPECT_TRUE(Do(AdapterAction::kUnpin, a).status.ok());
  EXPECT_EQ(Level(*a, &pinned), AdapterLevel::kDevice);
  EXPECT_FALSE(pinned);
  EXPECT_TRUE(Do(AdapterAction::kPin, disk_.Stored("c")).status.ok());
  for (int i = 0; i < 3; ++i) {
    const Request request = Make(3, 3, disk_.Stored(absl::StrCat("y", i)));
    ExpectAlone(request, Submit(request).get());
  }
  EXPECT_NE(Level(*a), AdapterLevel::kDevice);
}

TEST_F(EngineResidencyTest, PinsThatFillTheMemoryFailOthersNotTheEngine) {
  runner_options_.arena_adapters = 2;
  Start();
  EXPECT_TRUE(Do(AdapterAction::kPin, disk_.Stored("a")).status.ok());
  EXPECT_TRUE(Do(AdapterAction::kPin, disk_.Stored("b")).status.ok());
  const auto sink = Submit(Make(3, 3, disk_.Stored("c")));
  EXPECT_TRUE(absl::IsResourceExhausted(sink->Wait().status));
  EXPECT_TRUE(Do(AdapterAction::kUnload, disk_.Stored("a")).status.ok());
  const Request request = Make(3, 3, disk_.Stored("c"));
  ExpectAlone(request, Submit(request).get());
}

TEST_F(EngineResidencyTest, UnloadFreesEverything) {
  Start();
  const auto a = disk_.Stored("a");
  AdapterActionResult result = Do(AdapterAction::kUnload, a);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.freed_device_bytes + result.freed_host_bytes, 0u);
  EXPECT_TRUE(Do(AdapterAction::kPin, a).status.ok());
  ExpectBytes(10, 10);
  result = Do(AdapterAction::kUnload, a);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.freed_device_bytes, 10u);
  EXPECT_EQ(result.freed_host_bytes, 10u);
  ExpectBytes(0, 0);
  bool pinned = true;
  EXPECT_EQ(Level(*a, &pinned), AdapterLevel::kDisk);
  EXPECT_FALSE(pinned);
  EXPECT_THAT(engine_->ResidentAdapters(), IsEmpty());
  EXPECT_EQ(engine_->Stats().slots_used, 0);
}

TEST_F(EngineResidencyTest, TwoHundredCyclesLeaveNothingBehind) {
  runner_options_.limits.max_slots = 2;
  options_.host_adapter_bytes = 25;
  Start();
  for (int i = 0; i < 200; ++i) {
    const auto a = disk_.Stored(absl::StrCat("a", i % 7));
    if (i % 3 == 0) {
      EXPECT_TRUE(Do(AdapterAction::kPin, a).status.ok());
    } else if (i % 3 == 1) {
      const Request request = Make(3, 2, a);
      ExpectAlone(request, Submit(request).get());
    } else {
      EXPECT_TRUE(Do(AdapterAction::kLoadHost, a).status.ok());
    }
    EXPECT_TRUE(Do(AdapterAction::kUnload, a).status.ok());
    ExpectBytes(0, 0);
  }
  EXPECT_THAT(engine_->ResidentAdapters(), IsEmpty());
}

TEST_F(EngineResidencyTest, UnloadWaitsForWhatRunsAndOthersLoadAnew) {
  Start();
  const auto a = disk_.Stored("a");
  Request running = Make(3, 40, a);
  running.sampling.n = 2;
  gate_.CloseAfter(3);
  const auto sink = Submit(running);
  gate_.WaitUntilHeld();
  const int unload = Begin(AdapterAction::kUnload, a);
  const int second = Begin(AdapterAction::kUnload, a);
  const int pin = Begin(AdapterAction::kPin, a);
  const Request later = Make(3, 5, a);
  const auto later_sink = Submit(later);
  EXPECT_FALSE(Ended(unload));
  gate_.Open();
  const AdapterActionResult result = Result(unload);
  EXPECT_TRUE(sink->finished() || sink->Wait().status.ok());
  EXPECT_EQ(result.freed_device_bytes, 10u);
  EXPECT_EQ(result.freed_host_bytes, 10u);
  EXPECT_EQ(Result(second).freed_device_bytes, 0u);
  EXPECT_TRUE(Result(pin).status.ok());
  ExpectAlone(later, later_sink.get());
  EXPECT_EQ(disk_.reads("a"), 2);
  EXPECT_EQ(Level(*a), AdapterLevel::kDevice);
}

TEST_F(EngineResidencyTest, UnloadDoesNotWaitForAReaderThatStopped) {
  Start();
  const auto a = disk_.Stored("a");
  const Request slow = Make(3, 60, a);
  const auto sink = std::make_shared<CollectingSink>();
  sink->wants_more = false;
  ASSERT_TRUE(engine_->Submit(slow, sink).ok());
  sink->WaitForTokens(1);
  EXPECT_EQ(Do(AdapterAction::kUnload, a).freed_device_bytes, 10u);
  EXPECT_FALSE(sink->finished());
  sink->wants_more = true;
  engine_->Wake();
  ExpectAlone(slow, sink.get());
}

TEST_F(EngineResidencyTest, UnloadEndsLoadsUnderWay) {
  Start();
  const auto a = disk_.Stored("a");
  disk_.Hold("a");
  const int pin = Begin(AdapterAction::kPin, a);
  const int host = Begin(AdapterAction::kLoadHost, a);
  disk_.WaitUntilRead("a");
  const int unload = Begin(AdapterAction::kUnload, a);
  EXPECT_EQ(ReasonOf(Result(pin).status), "ADAPTER_ACTION_ENDED");
  EXPECT_EQ(ReasonOf(Result(host).status), "ADAPTER_ACTION_ENDED");
  EXPECT_FALSE(Ended(unload));
  disk_.Open();
  EXPECT_TRUE(Result(unload).status.ok());
  ExpectBytes(0, 0);
  EXPECT_EQ(Level(*a), AdapterLevel::kDisk);
}

TEST_F(EngineResidencyTest, UnpinEndsAPinThatLoads) {
  Start();
  const auto a = disk_.Stored("a");
  disk_.Hold("a");
  const int pin = Begin(AdapterAction::kPin, a);
  disk_.WaitUntilRead("a");
  EXPECT_TRUE(Do(AdapterAction::kUnpin, a).status.ok());
  EXPECT_EQ(ReasonOf(Result(pin).status), "ADAPTER_ACTION_ENDED");
  disk_.Open();
  EXPECT_TRUE(Do(AdapterAction::kLoadDevice, a).status.ok());
  bool pinned = true;
  EXPECT_EQ(Level(*a, &pinned), AdapterLevel::kDevice);
  EXPECT_FALSE(pinned);
}

TEST_F(EngineResidencyTest, StopEndsActionsOnce) {
  Start();
  const auto a = disk_.Stored("a");
  disk_.Hold("a");
  const int pin = Begin(AdapterAction::kPin, a);
  const int host = Begin(AdapterAction::kLoadHost, disk_.Stored("b"));
  disk_.WaitUntilRead("a");
  std::thread stop([this] { engine_->Stop(clock_.Now()); });
  absl::Status late;
  do {  // until Stop has begun
    late = Do(AdapterAction::kUnpin, disk_.Stored("c")).status;
  } while (late.ok());
  EXPECT_EQ(ReasonOf(late), "DRAINING");
  disk_.Open();
  stop.join();
  EXPECT_EQ(ReasonOf(Result(pin).status), "DRAINING");
  EXPECT_EQ(ReasonOf(Result(host).status), "DRAINING");
  engine_.reset();
}

TEST_F(EngineResidencyTest, WithoutSlotsThereIsNothingToManage) {
  runner_options_.limits.max_slots = 0;
  Start();
  const auto a = disk_.Stored("a");
  for (const AdapterAction action :
       {AdapterAction::kLoadHost, AdapterAction::kLoadDevice,
        AdapterAction::kPin}) {
    EXPECT_EQ(ReasonOf(Do(action, a).status), "ADAPTERS_OFF");
  }
  EXPECT_TRUE(Do(AdapterAction::kUnload, a).status.ok());
  EXPECT_TRUE(Do(AdapterAction::kUnpin, a).status.ok());
}

// A load that an operator asked for comes to its slot, however busy they are.
TEST_F(EngineResidencyTest, ActionsAreNotStarvedByRequests) {
  runner_options_.limits.max_slots = 2;
  runner_options_.num_blocks = 256;
  Start();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  for (int i = 0; i < 60; ++i) {
    sinks.push_back(
        Submit(Make(3, 100, disk_.Stored(absl::StrCat("busy", i % 2)))));
  }
  const auto a = disk_.Stored("a");
  EXPECT_TRUE(Do(AdapterAction::kPin, a).status.ok());
  EXPECT_FALSE(sinks.back()->finished());
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait().status.ok());
}

// Cold adapters of one tenant: the other's stays where it is.
TEST_F(EngineResidencyTest, ATenantsColdAdaptersLeaveOthersAlone) {
  options_.host_adapter_bytes = 40;
  Start();
  const auto hot = disk_.Stored("hot", "light");
  const Request first = Make(3, 3, hot);
  ExpectAlone(first, Submit(first).get());
  for (int i = 0; i < 40; ++i) {
    Request request = Make(3, 2, disk_.Stored(absl::StrCat("c", i), "heavy"));
    request.tenant = "heavy";
    ExpectAlone(request, Submit(request).get());
  }
  EXPECT_EQ(Level(*hot), AdapterLevel::kDevice);
  EXPECT_EQ(disk_.reads("hot"), 1);
  EXPECT_EQ(engine_->Stats().host_bytes, 40u);
}

TEST_F(EngineResidencyTest, TheSameContentUnderAnotherNameIsOneAdapter) {
  Start();
  const auto a = disk_.Stored("a");
  auto renamed = std::make_shared<Adapter>(*a);
  renamed->name = "b";
  const Request first = Make(3, 3, a);
  ExpectAlone(first, Submit(first).get());
  const Request second = Make(3, 3, renamed);
  ExpectAlone(second, Submit(second).get());
  EXPECT_EQ(disk_.reads("a") + disk_.reads("b"), 1);
  EXPECT_EQ(engine_->ResidentAdapters().size(), 1u);
}

}  // namespace
}  // namespace descant
