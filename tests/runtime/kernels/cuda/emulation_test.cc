// The emulation finds what it is there to find; its inline PTX is a product of
// matrices.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <descant_device.cuh>
#include <random>
#include <vector>

#include "tests/testing/cuda_emulation/guarded_array.h"

namespace descant::kernels::cuda_emulated {
namespace {

using cuda_emulation::GuardedArray;
using testing::AllOf;
using testing::HasSubstr;

constexpr uint32_t kThreads = 96;

LaunchShape OneBlock(uint32_t threads = kThreads) {
  return {.grid = {}, .block = {threads}};
}

std::string MessageOf(const absl::Status& status) {
  return std::string(status.message());
}

__global__ void Reverse(const int32_t* in, int32_t* out, bool synced) {
  DESCANT_SHARED(int32_t, values, kThreads);
  const uint32_t i = threadIdx.x;
  values[i] = in[i];
  if (synced) __syncthreads();
  out[i] = values[kThreads - 1 - i];
}

TEST(EmulationTest, ABarrierOrdersSharedMemory) {
  GuardedArray<int32_t> in(kThreads), out(kThreads);
  for (uint32_t i = 0; i < kThreads; ++i) in[i] = static_cast<int32_t>(3 * i);
  ASSERT_TRUE(
      LaunchKernel("reverse", &Reverse, OneBlock(), in.data(), out.data(), true)
          .ok());
  for (uint32_t i = 0; i < kThreads; ++i) {
    EXPECT_EQ(out[i], static_cast<int32_t>(3 * (kThreads - 1 - i)));
  }
}

TEST(EmulationTest, AMissingBarrierIsARaceForEverySeed) {
  GuardedArray<int32_t> in(kThreads), out(kThreads);
  std::fill(in.begin(), in.end(), 1);
  for (uint64_t seed = 1; seed < 20; ++seed) {
    cuda_emulation::SetSeed(seed);
    const absl::Status status = LaunchKernel("reverse", &Reverse, OneBlock(),
                                             in.data(), out.data(), false);
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(MessageOf(status),
                AllOf(HasSubstr("reverse"), HasSubstr("shared memory")));
  }
}

__global__ void WriteAfterRead(int32_t* out, bool synced) {
  DESCANT_SHARED(int32_t, value, 1);
  if (threadIdx.x == 0) value[0] = 1;
  __syncthreads();
  out[threadIdx.x] = value[0];
  if (synced) __syncthreads();
  if (threadIdx.x == 5) value[0] = 2;
}

TEST(EmulationTest, AWriteRacesWithTheReadsBeforeIt) {
  GuardedArray<int32_t> out(kThreads);
  for (uint64_t seed = 1; seed < 20; ++seed) {
    cuda_emulation::SetSeed(seed);
    EXPECT_TRUE(
        LaunchKernel("k", &WriteAfterRead, OneBlock(), out.data(), true).ok());
    EXPECT_THAT(MessageOf(LaunchKernel("k", &WriteAfterRead, OneBlock(),
                                       out.data(), false)),
                HasSubstr("races with a"));
  }
}

__global__ void ExchangeInWarp(int32_t* out, bool synced) {
  DESCANT_SHARED(int32_t, values, kThreads);
  const uint32_t i = threadIdx.x;
  values[i] = static_cast<int32_t>(i);
  if (synced) __syncwarp();
  out[i] = values[i ^ 1u];
}

TEST(EmulationTest, AWarpHasToSyncToo) {
  GuardedArray<int32_t> out(kThreads);
  ASSERT_TRUE(
      LaunchKernel("k", &ExchangeInWarp, OneBlock(), out.data(), true).ok());
  EXPECT_EQ(out[6], 7);
  EXPECT_FALSE(
      LaunchKernel("k", &ExchangeInWarp, OneBlock(), out.data(), false).ok());
}

__global__ void LeavesEarly() {
  if (threadIdx.x == 7) return;
  __syncthreads();
}

TEST(EmulationTest, ABarrierThatAThreadHasLeft) {
  EXPECT_THAT(MessageOf(LaunchKernel("k", &LeavesEarly, OneBlock())),
              HasSubstr("has left"));
}

__global__ void ShufflesWithoutALane() {
  if (threadIdx.x == 40) return;
  __shfl_xor_sync(0xffffffffu, 1, 1);
}
__global__ void TwoFunctions() {
  if (threadIdx.x % 2 == 0) {
    __shfl_xor_sync(0xffffffffu, 1, 1);
  } else {
    __syncwarp();
  }
}
__global__ void HalfAtABarrier() {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncwarp(threadIdx.x == 33 ? 0x6u : 0xffffffffu);
  }
}

TEST(EmulationTest, WarpFunctionsNeedTheirLanes) {
  EXPECT_THAT(MessageOf(LaunchKernel("k", &ShufflesWithoutALane, OneBlock())),
              HasSubstr("__shfl_xor_sync"));
  EXPECT_THAT(MessageOf(LaunchKernel("k", &TwoFunctions, OneBlock())),
              HasSubstr("another lane came to"));
  EXPECT_THAT(MessageOf(LaunchKernel("k", &HalfAtABarrier, OneBlock())),
              HasSubstr("deadlock"));
}

__global__ void Beyond(int32_t at) {
  DESCANT_SHARED(int32_t, first, 4);
  DESCANT_SHARED(int32_t, second, 4);
  first[at] = 1;
  second[0] = 1;
}

TEST(EmulationTest, ArraysOfSharedMemoryEnd) {
  EXPECT_TRUE(LaunchKernel("k", &Beyond, OneBlock(1), 3).ok());
  EXPECT_THAT(MessageOf(LaunchKernel("k", &Beyond, OneBlock(1), 4)),
              HasSubstr("beyond its array"));
  EXPECT_FALSE(LaunchKernel("k", &Beyond, OneBlock(1), -1).ok());
}

__global__ void ReadsNothing(int32_t* out) {
  DESCANT_SHARED(int32_t, value, 1);
  out[0] = value[0];
}

TEST(EmulationTest, SharedMemoryIsNotInitialised) {
  GuardedArray<int32_t> out(1);
  EXPECT_THAT(
      MessageOf(LaunchKernel("k", &ReadsNothing, OneBlock(1), out.data())),
      HasSubstr("nobody has written"));
}

__global__ void TakesALot() {
  DESCANT_SHARED(float, some, 12 << 10);
  DESCANT_SHARED(float, more, 1);
  some[0] = 1;
  more[0] = 1;
}

TEST(EmulationTest, SharedMemoryIsLimited) {
  EXPECT_THAT(MessageOf(LaunchKernel("k", &TakesALot, OneBlock(1))),
              HasSubstr("more shared memory"));
}

TEST(EmulationTest, LimitsOfALaunch) {
  const auto launch = [](const LaunchShape& shape) {
    return LaunchKernel("k", &LeavesEarly, shape).ok();
  };
  EXPECT_TRUE(launch({.grid = {2, 3, 4}, .block = {7}}));
  EXPECT_FALSE(launch({.grid = {}, .block = {1025}}));
  EXPECT_FALSE(launch({.grid = {1, 65536}, .block = {7}}));
  EXPECT_FALSE(launch({.grid = {0}, .block = {7}}));
}

template <typename Half>
__global__ void MultiplyTile(const Half* a, const Half* b, float* d) {
  const uint32_t lane = threadIdx.x;
  const uint32_t n = lane / 4, k = 2 * (lane % 4);
  const auto pair = [](const Half* matrix, uint32_t row, uint32_t column) {
    return uint32_t{matrix[row * 16 + column].bits} |
           uint32_t{matrix[row * 16 + column + 1].bits} << 16;
  };
  const uint32_t of_a[4] = {pair(a, n, k), pair(a, n + 8, k), pair(a, n, k + 8),
                            pair(a, n + 8, k + 8)};
  const uint32_t of_b[2] = {pair(b, n, k), pair(b, n, k + 8)};
  float sums[4] = {};
  Mma16816<Half>(sums, of_a, of_b);
  for (int i = 0; i < 4; ++i) {
    d[(n + i / 2 * 8) * 8 + k + i % 2] = sums[i];
  }
}

template <typename Half>
void ExpectProduct() {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1, 1);
  GuardedArray<Half> a(16 * 16), b(8 * 16);
  for (Half& value : a) value = FromFloat<Half>(uniform(random));
  for (Half& value : b) value = FromFloat<Half>(uniform(random));
  GuardedArray<float> d(16 * 8);
  ASSERT_TRUE(LaunchKernel("mma", &MultiplyTile<Half>, OneBlock(32), a.data(),
                           b.data(), d.data())
                  .ok());
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      double sum = 0;
      for (int k = 0; k < 16; ++k) {
        sum += double{ToFloat(a[row * 16 + k])} * ToFloat(b[column * 16 + k]);
      }
      EXPECT_NEAR(d[row * 8 + column], sum, 1e-5) << row << ", " << column;
    }
  }
}

TEST(EmulationTest, FragmentsMakeAProduct) {
  ExpectProduct<BFloat16>();
  ExpectProduct<Float16>();
}

TEST(GuardedArrayDeathTest, BehindItsEndIsNothing) {
  GuardedArray<int32_t> array(4);
  volatile int32_t* data = array.data();
  data[3] = 1;
  EXPECT_DEATH(data[4] = 1, "");
}

}  // namespace
}  // namespace descant::kernels::cuda_emulated
