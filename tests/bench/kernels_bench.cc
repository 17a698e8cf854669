// What the machine gives, and what the kernels make of it: read bandwidth of
// the worker pool, and GEMM rates by rows and shape on one core and on all.
// Rates are per second of wall time: "GB/s" of weights, "GFLOP/s" of
// multiplications and additions.
#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/kernels/arena.h"
#include "runtime/kernels/cpu/brgemm.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/cpu/variants.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/worker_pool.h"

namespace descant::kernels {
namespace {

WorkerPool& Pool() {
  static WorkerPool* pool = new WorkerPool(0);
  return *pool;
}

const CpuKernels& Best() {
  static const CpuKernels* kernels = *KernelsFor(*ChooseCpuIsa());
  return *kernels;
}

struct ReadRegion {
  const uint64_t* data;
  int64_t words;
  std::atomic<uint64_t> sum{0};
};

void ReadTask(void* context, int32_t worker) {
  ReadRegion& region = *static_cast<ReadRegion*>(context);
  const int64_t share = region.words / Pool().size();
  const uint64_t* at = region.data + worker * share;
  uint64_t sums[8] = {};
  for (int64_t i = 0; i + 8 <= share; i += 8) {
    __builtin_prefetch(at + i + 256);
    for (int lane = 0; lane < 8; ++lane) sums[lane] ^= at[i + lane];
  }
  for (const uint64_t sum : sums) region.sum += sum;
}

void BM_ReadBandwidth(benchmark::State& state) {
  constexpr int64_t kBytes = int64_t{512} << 20;  // beyond any cache here
  Arena arena = *Arena::Create(kBytes);
  std::memset(arena.data(), 1, kBytes);
  ReadRegion region{reinterpret_cast<const uint64_t*>(arena.data()),
                    kBytes / 8};
  for (auto _ : state) Pool().Run(&ReadTask, &region);
  state.counters["GB/s"] = benchmark::Counter(
      1e-9 * kBytes * static_cast<double>(state.iterations()),
      benchmark::Counter::kIsRate);
}
BENCHMARK(BM_ReadBandwidth)->UseRealTime()->Unit(benchmark::kMillisecond);

// All column blocks of a weight [n, k], copies of it up to `kStreamBytes`, so
// that weights come from memory as they do in a step.
struct GemmRegion {
  GemmFn gemm;
  int32_t m, n, k;
  const bf16_t* a;
  const bf16_t* b;
  int64_t copies;
  std::vector<float>* c;  // one tile a worker
};

void GemmTask(void* context, int32_t worker) {
  GemmRegion& region = *static_cast<GemmRegion*>(context);
  const int64_t blocks = region.copies * region.n / kColumnBlock;
  const int64_t workers = Pool().size();
  // Contiguous shares, as in a step.
  for (int64_t block = blocks * worker / workers;
       block < blocks * (worker + 1) / workers; ++block) {
    const bf16_t* b = region.b + block * kColumnBlock * region.k;
    region.gemm(region.m, region.k / 2, region.a, region.k, b, 2 * kColumnBlock,
                b + kColumnBlock * region.k, region.c[worker].data(),
                kColumnBlock, false);
  }
}

void RunGemm(benchmark::State& state, GemmFn gemm) {
  constexpr int64_t kStreamBytes = int64_t{160} << 20;
  GemmRegion region;
  region.gemm = gemm;
  region.m = static_cast<int32_t>(state.range(0));
  region.n = static_cast<int32_t>(state.range(1));
  region.k = static_cast<int32_t>(state.range(2));
  const int64_t bytes = int64_t{2} * region.n * region.k;
  region.copies = std::max<int64_t>(1, kStreamBytes / bytes);
  Arena weights = *Arena::Create(region.copies * bytes);
  std::memset(weights.data(), 0x3c, weights.size());
  const std::vector<bf16_t> a(region.m * region.k, 0x3c3c);
  std::vector<std::vector<float>> c(
      Pool().size(), std::vector<float>(region.m * kColumnBlock));
  region.a = a.data();
  region.b = reinterpret_cast<const bf16_t*>(weights.data());
  region.c = c.data();
  for (auto _ : state) Pool().Run(&GemmTask, &region);
  const double passes = static_cast<double>(state.iterations() * region.copies);
  state.counters["GB/s"] = benchmark::Counter(
      1e-9 * passes * static_cast<double>(bytes), benchmark::Counter::kIsRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(1e-9 * passes * region.m * static_cast<double>(bytes),
                         benchmark::Counter::kIsRate);
}

void Shapes(benchmark::internal::Benchmark* bench) {
  for (const int m : {1, 2, 4, 8, 12, 16, 32, 64}) {
    for (const auto& [n, k] : {std::pair(3072, 576), std::pair(576, 1536)}) {
      bench->Args({m, n, k});
    }
  }
  bench->UseRealTime()->Unit(benchmark::kMillisecond);
}

void BM_Gemm(benchmark::State& state) { RunGemm(state, Best().gemm); }
BENCHMARK(BM_Gemm)->Apply(Shapes);

void BM_GemmAvx2(benchmark::State& state) { RunGemm(state, &GemmAvx2); }
BENCHMARK(BM_GemmAvx2)->Apply(Shapes);

// The library's micro-kernel on the same blocks.
void BM_GemmBrgemm(benchmark::State& state) {
  const absl::Status ready = BrgemmPrepare(
      static_cast<int32_t>(state.range(2)) / 2, state.range(2), kColumnBlock);
  if (!ready.ok()) {
    state.SkipWithError(std::string(ready.message()).c_str());
    return;
  }
  RunGemm(state, &BrgemmGemm);
}
BENCHMARK(BM_GemmBrgemm)->Apply(Shapes);

}  // namespace
}  // namespace descant::kernels

BENCHMARK_MAIN();
