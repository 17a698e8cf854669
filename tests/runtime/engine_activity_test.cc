// Who does what, as Engine::Inspect tells it.
#include <chrono>
#include <future>
#include <thread>

#include "tests/runtime/engine_fixture.h"

namespace descant {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class EngineActivityTest : public EngineFixture {
 protected:
  // With the snapshot of the same step.
  EngineActivity Look(EngineStats* stats) {
    std::promise<EngineActivity> told;
    engine_->Inspect([&](const EngineActivity& activity) {
      *stats = engine_->Stats();
      told.set_value(activity);
    });
    return told.get_future().get();
  }

  // With the gate holding a step: lets steps pass until so many sequences run,
  // looks behind the next one, and opens the gate.
  EngineActivity LookWhenRunning(int32_t running, EngineStats* stats) {
    for (int i = 0; i < 150 && engine_->Stats().running < running; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a load
      gate_.PassOne();
    }
    std::promise<EngineActivity> told;
    engine_->Inspect([&](const EngineActivity& activity) {
      *stats = engine_->Stats();
      told.set_value(activity);
    });
    gate_.Open();
    return told.get_future().get();
  }

  static TenantActivity Sum(const EngineActivity& activity) {
    TenantActivity sum;
    for (const TenantActivity& tenant : activity.tenants) {
      sum.running += tenant.running;
      sum.waiting += tenant.waiting;
      sum.blocks_used += tenant.blocks_used;
      sum.blocks_cached += tenant.blocks_cached;
      sum.slots_used += tenant.slots_used;
    }
    return sum;
  }

  static void ExpectSums(const EngineActivity& activity,
                         const EngineStats& stats) {
    const TenantActivity sum = Sum(activity);
    EXPECT_EQ(sum.running, stats.running);
    EXPECT_EQ(sum.waiting, stats.waiting);
    EXPECT_EQ(sum.blocks_used, stats.blocks_used);
    EXPECT_EQ(sum.blocks_cached, stats.blocks_cached);
    EXPECT_EQ(sum.slots_used, stats.slots_used);
  }
};

TEST_F(EngineActivityTest, TenantsAddUpToWhatThereIs) {
  Start();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  // Held until all are there; then long enough to be seen.
  gate_.Close();
  Request shared = Make(70, 200);  // two full blocks that its answers share
  shared.tenant = "a";
  shared.sampling.n = 3;
  sinks.push_back(Submit(shared));
  gate_.WaitUntilHeld();
  const auto adapter = MakeFakeAdapter("tuned");
  for (int i = 0; i < 8; ++i) {
    Request request = Make(5, 200, adapter);
    request.tenant = "b";
    sinks.push_back(Submit(request));
  }
  EngineStats stats;
  EngineActivity activity = LookWhenRunning(8, &stats);
  ExpectSums(activity, stats);
  ASSERT_EQ(stats.running, 8);
  EXPECT_EQ(stats.waiting, 3);
  const auto of = [&](const std::string& tenant) {
    for (const TenantActivity& t : activity.tenants) {
      if (t.tenant == tenant) return t;
    }
    return TenantActivity();
  };
  EXPECT_EQ(of("a").running + of("a").waiting, 3);
  EXPECT_EQ(of("b").running + of("b").waiting, 8);
  ASSERT_THAT(activity.adapters, SizeIs(1));
  EXPECT_EQ(activity.adapters[0].name, "tuned");
  EXPECT_EQ(activity.adapters[0].digest, adapter->digest);
  EXPECT_EQ(activity.adapters[0].running, of("b").running);
  EXPECT_EQ(activity.adapters[0].waiting, of("b").waiting);
  for (const auto& sink : sinks) EXPECT_TRUE(sink->Wait().status.ok());
  WaitUntilIdle();
  activity = Look(&stats);
  ExpectSums(activity, stats);
  EXPECT_GT(stats.blocks_cached, 0);
  EXPECT_EQ(of("a").blocks_used, 0);
  EXPECT_GT(of("a").blocks_cached, 0);
  EXPECT_THAT(activity.adapters, IsEmpty());
}

TEST_F(EngineActivityTest, TheBusiestAdapterComesFirst) {
  Start();
  std::vector<std::shared_ptr<CollectingSink>> sinks;
  gate_.Close();
  sinks.push_back(Submit(Make(5, 300, MakeFakeAdapter("a"))));
  for (int i = 0; i < 2; ++i) {
    sinks.push_back(Submit(Make(5, 300, MakeFakeAdapter("b"))));
  }
  gate_.WaitUntilHeld();
  EngineStats stats;
  const EngineActivity activity = LookWhenRunning(3, &stats);
  ASSERT_THAT(activity.adapters, SizeIs(2));
  EXPECT_EQ(activity.adapters[0].name, "b");
  EXPECT_EQ(activity.adapters[0].running, 2);
  EXPECT_EQ(activity.adapters[1].name, "a");
  for (const auto& sink : sinks) sink->Wait();
}

TEST_F(EngineActivityTest, CachedTokensAreCountedOnceAPrompt) {
  Start();
  Request first = Make(70, 2);
  Submit(first)->Wait();
  Request again = first;
  again.id = ++last_id_;
  again.sampling.n = 2;
  EXPECT_EQ(Submit(again)->Wait().cached_tokens, 64);
  WaitUntilIdle();
  EXPECT_EQ(engine_->Stats().cached_tokens, 64u);
}

TEST_F(EngineActivityTest, AnEngineThatStoppedTellsNothingAtOnce) {
  Start();
  Submit(Make(5, 2))->Wait();
  engine_->Stop(clock_.Now());
  EngineStats stats;
  EXPECT_THAT(Look(&stats).tenants, IsEmpty());
  EXPECT_THAT(runner_->violations(), IsEmpty());
  engine_.reset();
}

}  // namespace
}  // namespace descant
