// The kernels alone, on all workers, at the demo model's sizes and at those of
// an 8B model, for each instruction set of this machine. What a step reads from
// memory (weights, adapters, KV cache) comes from memory here as well.
//
// Counters are rates of wall time: "GB/s" of those bytes, and "of_read" as a
// fraction of the machine's measured bandwidth; "TFLOP/s", and "of_peak" as a
// fraction of what the instruction set was measured to do in registers. A
// kernel can't be near 1 in both: the larger of them says how good it is.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "runtime/kernels/cpu/brgemm.h"
#include "runtime/kernels/cpu/cpu_features.h"
#include "runtime/kernels/groups.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/worker_pool.h"
#include "tests/bench/kernels/streams.h"
#include "tests/bench/machine/machine.h"

namespace descant::bench {
namespace {

using kernels::bf16_t;
using kernels::CpuIsa;
using kernels::CpuKernels;
using kernels::kColumnBlock;
using kernels::WorkerPool;

WorkerPool& Pool() {
  static WorkerPool* pool = new WorkerPool(0);
  return *pool;
}

// One instruction set and what the machine gives it.
struct Target {
  std::string name;
  const CpuKernels* kernels;
  Peak peak;
  double read;
};

// Per iteration.
void Report(benchmark::State& state, const Target& target, double bytes,
            double operations, double peak) {
  const double passes = static_cast<double>(state.iterations());
  const auto rate = [&](double amount) {
    return benchmark::Counter(passes * amount, benchmark::Counter::kIsRate);
  };
  state.counters["GB/s"] = rate(1e-9 * bytes);
  state.counters["of_read"] = rate(bytes / target.read);
  if (operations == 0) return;
  state.counters["TFLOP/s"] = rate(1e-12 * operations);
  if (peak > 0) state.counters["of_peak"] = rate(operations / peak);
}

// A weight [n, k] and rows that meet it.
struct Shape {
  const char* name;
  int32_t n;
  int32_t k;
};
constexpr Shape kShapes[] = {
    {"gate_up_135M", 3072, 576}, {"down_135M", 576, 1536},
    {"qkv_8B", 6144, 4096},      {"gate_up_8B", 28672, 4096},
    {"down_8B", 4096, 14336},
};

// multiply(worker, block index within all copies, c) for every block.
template <typename Multiply>
void RunBlocks(benchmark::State& state, const Target& target,
               const Shape& shape, int32_t m, int64_t block_bytes,
               int64_t copies, double peak, const Multiply& multiply) {
  const int64_t blocks = copies * shape.n / kColumnBlock;
  Buffer<float> c(int64_t{Pool().size()} * m * kColumnBlock);
  for (auto _ : state) {
    OnShares(&Pool(), *target.kernels, blocks,
             [&](int32_t worker, int64_t begin, int64_t end) {
               float* mine = c.data() + int64_t{worker} * m * kColumnBlock;
               for (int64_t block = begin; block < end; ++block) {
                 multiply(worker, block, mine);
               }
             });
  }
  Report(state, target, static_cast<double>(blocks * block_bytes),
         2.0 * m * static_cast<double>(blocks) * kColumnBlock * shape.k, peak);
}

void Gemm(benchmark::State& state, const Target& target, const Shape& shape,
          int32_t m) {
  const int64_t block_bytes = int64_t{2} * kColumnBlock * shape.k;
  const Stream weights(block_bytes * shape.n / kColumnBlock);
  Buffer<bf16_t> a(int64_t{m} * shape.k);
  if (target.kernels->gemm_is_brgemm) {
    OnShares(
        &Pool(), *target.kernels, Pool().size(),
        [&](int32_t, int64_t, int64_t) {
          DESCANT_CHECK(
              kernels::BrgemmPrepare(shape.k / 2, shape.k, kColumnBlock).ok());
        });
  }
  const auto* data = reinterpret_cast<const bf16_t*>(weights.data());
  RunBlocks(state, target, shape, m, block_bytes, weights.copies(),
            target.peak.bf16, [&](int32_t, int64_t block, float* c) {
              const bf16_t* b = data + block * kColumnBlock * shape.k;
              target.kernels->gemm(
                  m, shape.k / 2, a.data(), shape.k, b, 2 * kColumnBlock,
                  b + int64_t{kColumnBlock} * shape.k, c, kColumnBlock, false);
            });
}

void GemmInt8(benchmark::State& state, const Target& target, const Shape& shape,
              int32_t m) {
  const int64_t block_bytes = kernels::Int8BlockBytes(shape.k);
  const Stream weights(block_bytes * shape.n / kColumnBlock);
  Buffer<uint8_t> a(int64_t{m} * shape.k);
  Buffer<float> scale(m);
  RunBlocks(state, target, shape, m, block_bytes, weights.copies(),
            target.peak.int8, [&](int32_t, int64_t block, float* c) {
              const std::byte* b = weights.data() + block * block_bytes;
              target.kernels->int8.gemm(m, shape.k, a.data(), shape.k,
                                        scale.data(), b, b + block_bytes, c,
                                        kColumnBlock);
            });
}

// As a step does it: fused for few rows, else a block is expanded first.
void GemmInt4(benchmark::State& state, const Target& target, const Shape& shape,
              int32_t m) {
  constexpr auto kFormat = kernels::GroupFormat::k4;
  const kernels::GroupKernels& groups = *target.kernels->groups;
  const int32_t format = static_cast<int32_t>(kFormat);
  const int64_t block_bytes = kernels::GroupBlockBytes(kFormat, shape.k / 2);
  const Stream weights(block_bytes * shape.n / kColumnBlock);
  Buffer<bf16_t> a(int64_t{m} * shape.k);
  const int64_t expanded = int64_t{kColumnBlock} * shape.k;
  Buffer<bf16_t> room(Pool().size() * expanded);
  const auto* data = reinterpret_cast<const uint8_t*>(weights.data());
  RunBlocks(state, target, shape, m, block_bytes, weights.copies(),
            target.peak.bf16, [&](int32_t worker, int64_t block, float* c) {
              const uint8_t* b = data + block * block_bytes;
              if (m <= groups.fused_rows) {
                groups.gemm[format](m, shape.k / 2, a.data(), shape.k, b, c,
                                    kColumnBlock);
                return;
              }
              bf16_t* out = room.data() + worker * expanded;
              groups.expand[format](shape.k / 2, b, b + block_bytes, out);
              target.kernels->gemm(m, shape.k / 2, a.data(), shape.k, out,
                                   2 * kColumnBlock, nullptr, c, kColumnBlock,
                                   false);
            });
}

struct AttentionShape {
  const char* name;
  int32_t group;
  int32_t head_dim;
};
constexpr AttentionShape kAttentionShapes[] = {{"135M", 3, 64}, {"8B", 4, 128}};

// Heads of many sequences, each with its own blocks: `tokens` queries at the
// end of a context.
void Attention(benchmark::State& state, const Target& target,
               const AttentionShape& shape, int32_t context, int32_t tokens) {
  const int32_t blocks = context / kernels::kKvBlock;
  const int64_t block_elements =
      int64_t{2} * kernels::kKvBlock * shape.head_dim;
  const Stream cache(2 * blocks * block_elements);
  const int64_t row = int64_t{shape.group} * shape.head_dim;
  Buffer<bf16_t> q(tokens * row);
  Buffer<bf16_t> out(Pool().size() * tokens * row);
  const int64_t room = kernels::AttentionWorkspaceBytes(
      shape.group, shape.head_dim, shape.head_dim);
  Buffer<std::byte> workspace(Pool().size() * (room + 63) / 64 * 64 + 64);
  std::vector<int32_t> table(blocks);
  for (int32_t i = 0; i < blocks; ++i) table[i] = i;
  const auto* kv = reinterpret_cast<const bf16_t*>(cache.data());
  for (auto _ : state) {
    OnShares(&Pool(), *target.kernels, cache.copies(),
             [&](int32_t worker, int64_t begin, int64_t end) {
               kernels::AttentionItem item = {};
               item.q = q.data();
               item.q_stride = item.out_stride = row;
               item.tokens = tokens;
               item.group = shape.group;
               item.head_dim = item.padded_dim = shape.head_dim;
               item.first_position = context - tokens;
               item.block_stride = block_elements;
               item.v_offset = block_elements / 2;
               item.blocks = table.data();
               item.scale = 0.1f;
               item.out = out.data() + worker * tokens * row;
               std::byte* mine =
                   workspace.data() + worker * ((room + 63) / 64 * 64);
               for (int64_t copy = begin; copy < end; ++copy) {
                 item.kv = kv + copy * blocks * block_elements;
                 target.kernels->attention(item, mine);
               }
             });
  }
  const double items = static_cast<double>(cache.copies());
  const double pairs = items * tokens * shape.group * (context - tokens / 2.0);
  Report(state, target,
         items * 2.0 * static_cast<double>(blocks * block_elements),
         4.0 * pairs * shape.head_dim, target.peak.bf16);
}

// `Value`: of the adapters' matrices.
template <typename Value>
const kernels::LoraKernels& LoraOf(const Target& target) {
  return std::is_same_v<Value, int8_t> ? *target.kernels->lora_int8
                                       : *target.kernels->lora;
}

// LoRA's A of many adapters, `m` rows each: one block of 16 ranks.
template <typename Value>
void Shrink(benchmark::State& state, const Target& target, int32_t k,
            int32_t m) {
  const int64_t elements = int64_t{k} * kernels::kRankBlock;
  const Stream adapters(elements * static_cast<int64_t>(sizeof(Value)));
  Buffer<bf16_t> a(int64_t{m} * k);
  Buffer<bf16_t> h(int64_t{Pool().size()} * m * kernels::kRankBlock);
  const float scale[kernels::kRankBlock] = {};
  const auto* data = reinterpret_cast<const Value*>(adapters.data());
  for (auto _ : state) {
    OnShares(&Pool(), *target.kernels, adapters.copies(),
             [&](int32_t worker, int64_t begin, int64_t end) {
               bf16_t* mine = h.data() + worker * m * kernels::kRankBlock;
               for (int64_t i = begin; i < end; ++i) {
                 LoraOf<Value>(target).shrink(m, k / 2, a.data(), k,
                                              data + i * elements, scale, mine,
                                              kernels::kRankBlock);
               }
             });
  }
  const double values = static_cast<double>(adapters.copies() * elements);
  Report(state, target, sizeof(Value) * values, 2 * m * values,
         target.peak.bf16);
}

// LoRA's B of many adapters, `m` rows each: one block of 32 columns.
template <typename Value>
void Expand(benchmark::State& state, const Target& target, int32_t rank,
            int32_t m) {
  const int64_t elements = int64_t{rank} * kColumnBlock;
  const Stream adapters(elements * static_cast<int64_t>(sizeof(Value)));
  Buffer<bf16_t> h(int64_t{m} * rank);
  Buffer<float> c(int64_t{Pool().size()} * m * kColumnBlock);
  const auto* data = reinterpret_cast<const Value*>(adapters.data());
  for (auto _ : state) {
    OnShares(&Pool(), *target.kernels, adapters.copies(),
             [&](int32_t worker, int64_t begin, int64_t end) {
               float* mine = c.data() + worker * m * kColumnBlock;
               for (int64_t i = begin; i < end; ++i) {
                 const kernels::ExpandSegment segment = {
                     h.data(), data + i * elements, rank, rank / 2, 0, m};
                 LoraOf<Value>(target).expand(&segment, 1, 0, 0, m, mine,
                                              kColumnBlock);
               }
             });
  }
  const double values = static_cast<double>(adapters.copies() * elements);
  Report(state, target, sizeof(Value) * values, 2 * m * values,
         target.peak.bf16);
}

// Row by row, from the second-level cache: "GB/s" of fp32 read.
void RmsNorm(benchmark::State& state, const Target& target, int32_t n) {
  constexpr int32_t kRows = 32;
  Buffer<float> x(int64_t{kRows} * n), weight(n);
  Buffer<bf16_t> out(int64_t{kRows} * n);
  for (auto _ : state) {
    OnShares(&Pool(), *target.kernels, kRows,
             [&](int32_t, int64_t begin, int64_t end) {
               for (int64_t row = begin; row < end; ++row) {
                 target.kernels->rms_norm(x.data() + row * n, weight.data(),
                                          nullptr, n, n, 1e-5f,
                                          out.data() + row * n);
               }
             });
  }
  Report(state, target, 4.0 * kRows * n, 0, 0);
}

void SiluMul(benchmark::State& state, const Target& target, int32_t rows) {
  constexpr int32_t kTiles = 96;
  Buffer<float> gate(int64_t{rows} * kColumnBlock), up(rows * kColumnBlock);
  Buffer<bf16_t> out(int64_t{Pool().size()} * rows * kColumnBlock);
  for (auto _ : state) {
    OnShares(&Pool(), *target.kernels, kTiles,
             [&](int32_t worker, int64_t begin, int64_t end) {
               for (int64_t tile = begin; tile < end; ++tile) {
                 target.kernels->silu_mul(
                     rows, gate.data(), up.data(),
                     out.data() + int64_t{worker} * rows * kColumnBlock,
                     kColumnBlock);
               }
             });
  }
  Report(state, target, 8.0 * kTiles * rows * kColumnBlock, 0, 0);
}

template <typename Run>
void Add(const std::string& name, Run run) {
  benchmark::RegisterBenchmark(name.c_str(), std::move(run))
      ->UseRealTime()
      ->MinTime(0.1)
      ->Unit(benchmark::kMicrosecond);
}

template <typename Value>
void AddLora(const Target* target, const std::string& type, int32_t m) {
  for (const int32_t k : {576, 4096}) {
    Add(absl::StrCat(target->name, "/shrink", type, "/", k, "/rows:", m),
        [=](benchmark::State& state) { Shrink<Value>(state, *target, k, m); });
  }
  for (const int32_t rank : {8, 16}) {
    Add(absl::StrCat(target->name, "/expand", type, "/rank:", rank,
                     "/rows:", m),
        [=](benchmark::State& state) {
          Expand<Value>(state, *target, rank, m);
        });
  }
}

void AddGemms(const Target* target) {
  using Kernel =
      void (*)(benchmark::State&, const Target&, const Shape&, int32_t);
  std::map<std::string, Kernel> gemms = {{"gemm_bf16", &Gemm}};
  if (target->kernels->int8.gemm != nullptr) gemms["gemm_int8"] = &GemmInt8;
  if (target->kernels->groups != nullptr) gemms["gemm_int4"] = &GemmInt4;
  for (const auto& [name, gemm] : gemms) {
    for (const Shape& shape : kShapes) {
      for (const int32_t m : {1, 2, 4, 8, 16, 32, 64}) {
        Add(absl::StrCat(target->name, "/", name, "/", shape.name, "/rows:", m),
            [=, gemm = gemm](benchmark::State& state) {
              gemm(state, *target, shape, m);
            });
      }
    }
  }
}

void AddOthers(const Target* target) {
  for (const AttentionShape& shape : kAttentionShapes) {
    for (const int32_t context : {192, 1024, 8192}) {
      for (const int32_t tokens :
           {1, kernels::AttentionRows(shape.group) / shape.group}) {
        Add(absl::StrCat(target->name, "/attention/", shape.name,
                         "/context:", context, "/tokens:", tokens),
            [=](benchmark::State& state) {
              Attention(state, *target, shape, context, tokens);
            });
      }
    }
  }
  for (const int32_t m : {1, 8, 32}) {
    AddLora<bf16_t>(target, "", m);
    AddLora<int8_t>(target, "_int8", m);
  }
  for (const int32_t n : {576, 4096}) {
    Add(absl::StrCat(target->name, "/rms_norm/", n),
        [=](benchmark::State& state) { RmsNorm(state, *target, n); });
  }
  for (const int32_t rows : {1, 32}) {
    Add(absl::StrCat(target->name, "/silu_mul/rows:", rows),
        [=](benchmark::State& state) { SiluMul(state, *target, rows); });
  }
}

int Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 64;
  const Machine machine = DescribeMachine();
  const double read = MeasureReadBandwidth(&Pool());
  benchmark::AddCustomContext("cpu", machine.cpu);
  benchmark::AddCustomContext("cores", absl::StrCat(machine.cores));
  benchmark::AddCustomContext("commit", machine.commit);
  benchmark::AddCustomContext("read GB/s", absl::StrCat(1e-9 * read));
  for (const CpuIsa isa : {CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAmx}) {
    if (isa > kernels::DetectCpuIsa()) continue;
    const auto table = kernels::KernelsFor(isa);
    if (!table.ok()) continue;
    const std::string name(kernels::CpuIsaName(isa));
    const auto* target =
        new Target{name, *table, MeasurePeak(isa, &Pool()), read};
    benchmark::AddCustomContext(
        absl::StrCat(name, " fp32, bf16, int8 TFLOP/s"),
        absl::StrCat(1e-12 * target->peak.fp32, ", ", 1e-12 * target->peak.bf16,
                     ", ", 1e-12 * target->peak.int8));
    AddGemms(target);
    AddOthers(target);
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace
}  // namespace descant::bench

int main(int argc, char** argv) { return descant::bench::Main(argc, argv); }
