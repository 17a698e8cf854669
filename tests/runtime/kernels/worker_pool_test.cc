#include "runtime/kernels/worker_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <vector>

#include "runtime/kernels/arena.h"

namespace descant::kernels {
namespace {

struct Region {
  WorkerPool* pool;
  std::vector<int64_t> values;  // one a worker
  std::atomic<int> wrong{0};
};

// Each worker writes its own value, and after a barrier reads all others'.
void Task(void* context, int32_t worker) {
  Region& region = *static_cast<Region*>(context);
  for (int64_t round = 1; round <= 200; ++round) {
    region.values[worker] = round;
    region.pool->Barrier();
    for (const int64_t value : region.values) {
      if (value != round) ++region.wrong;
    }
    region.pool->Barrier();
  }
}

TEST(WorkerPoolTest, BarriersOrderMemoryForAnyNumberOfThreads) {
  for (const int32_t threads : {1, 2, 3, 5}) {
    WorkerPool pool(threads);
    ASSERT_EQ(threads, pool.size());
    Region region{&pool, std::vector<int64_t>(threads)};
    for (int i = 0; i < 5; ++i) pool.Run(&Task, &region);
    EXPECT_EQ(0, region.wrong.load());
  }
}

TEST(WorkerPoolTest, WakesAfterASleep) {
  WorkerPool pool(2);
  Region region{&pool, std::vector<int64_t>(2)};
  for (int i = 0; i < 3; ++i) {
    usleep(20000);
    pool.Run(&Task, &region);
  }
  EXPECT_EQ(0, region.wrong.load());
}

TEST(WorkerPoolTest, LeavesTheCallersAffinityAlone) {
  const int32_t cpus = AvailableCpus();
  WorkerPool pool(0);
  EXPECT_EQ(cpus, pool.size());
  cpu_set_t before, after;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof before, &before));
  Region region{&pool, std::vector<int64_t>(cpus)};
  pool.Run(&Task, &region);
  ASSERT_EQ(0, sched_getaffinity(0, sizeof after, &after));
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(ArenaTest, IsAlignedAndZero) {
  auto arena = Arena::Create(5000001);
  ASSERT_TRUE(arena.ok());
  EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(arena->data()) % (2 << 20));
  EXPECT_EQ(5000001u, arena->size());
  EXPECT_EQ(std::byte{0}, arena->data()[5000000]);
  EXPECT_FALSE(Arena::Create(~uint64_t{0}).ok());
}

}  // namespace
}  // namespace descant::kernels
