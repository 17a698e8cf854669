#include "tests/bench/machine/machine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/kernels/arena.h"
#include "tests/bench/machine/loops.h"

namespace descant::bench {
namespace {

using Clock = std::chrono::steady_clock;
using kernels::CpuIsa;
using kernels::WorkerPool;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One line of a command's output.
std::string OutputOf(const char* command) {
  std::string line;
  if (std::FILE* pipe = popen(command, "r"); pipe != nullptr) {
    char buffer[256];
    if (std::fgets(buffer, sizeof buffer, pipe) != nullptr) line = buffer;
    pclose(pipe);
  }
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

struct ReadRegion {
  ReadLoop loop;
  const std::byte* data;
  int64_t share;  // bytes of a worker
  int streams;
  int64_t ahead;
  std::atomic<uint64_t> sum{0};
};

void ReadTask(void* context, int32_t worker) {
  ReadRegion& region = *static_cast<ReadRegion*>(context);
  region.sum += region.loop(region.data + worker * region.share, region.share,
                            region.streams, region.ahead);
}

struct PeakRegion {
  const PeakLoop* loop;
  int64_t rounds;
  std::atomic<uint64_t> sum{0};
};

void PeakTask(void* context, int32_t) {
  PeakRegion& region = *static_cast<PeakRegion*>(context);
  region.sum += region.loop->run(region.rounds);
}

double RateOf(const PeakLoop& loop, WorkerPool* pool) {
  PeakRegion region{&loop, 1 << 12};
  double seconds = 0;
  // As long as clocks need to settle.
  while (seconds < 0.02) {
    const auto start = Clock::now();
    pool->Run(&PeakTask, &region);
    seconds = SecondsSince(start);
    if (seconds < 0.02) region.rounds *= 2;
  }
  for (int i = 0; i < 5; ++i) {
    const auto start = Clock::now();
    pool->Run(&PeakTask, &region);
    seconds = std::min(seconds, SecondsSince(start));
  }
  return loop.operations * static_cast<double>(region.rounds) * pool->size() /
         seconds;
}

}  // namespace

Machine DescribeMachine() {
  Machine machine;
  machine.cores = kernels::AvailableCpus();
  machine.cpu = "unknown";
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    machine.cpu = line.substr(line.find(':') + 2);
    break;
  }
  machine.commit =
      OutputOf("git describe --always --dirty --exclude '*' 2>/dev/null");
  if (machine.commit.empty()) machine.commit = "unknown";
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  machine.date = text;
  return machine;
}

double MeasureReadBandwidth(WorkerPool* pool) {
  constexpr int64_t kUnit = int64_t{64} * 8 * 4;
  constexpr int64_t kBytes = int64_t{512} << 20;
  // Past the end, so that asking ahead stays inside.
  constexpr int64_t kSlack = 1 << 16;
  auto arena = kernels::Arena::Create(kBytes + kSlack);
  DESCANT_CHECK(arena.ok());
  std::memset(arena->data(), 1, arena->size());
  ReadRegion region;
  const CpuIsa isa = kernels::DetectCpuIsa();
  region.loop = isa >= CpuIsa::kAvx512
                    ? &ReadAvx512
                    : (isa == CpuIsa::kAvx2 ? &ReadAvx2 : &ReadScalar);
  region.data = arena->data();
  region.share = kBytes / pool->size() / kUnit * kUnit;
  double best = 0;
  for (int pass = 0; pass < 3; ++pass) {
    for (const int streams : {1, 4}) {
      for (const int64_t ahead : {0, 512, 2048, 8192}) {
        region.streams = streams;
        region.ahead = ahead;
        const auto start = Clock::now();
        pool->Run(&ReadTask, &region);
        best = std::max(best, static_cast<double>(region.share) * pool->size() /
                                  SecondsSince(start));
      }
    }
  }
  return best;
}

Peak MeasurePeak(CpuIsa isa, WorkerPool* pool) {
  Peak peak;
  if (isa == CpuIsa::kAvx2) {
    peak.fp32 = RateOf(kFp32Avx2, pool);
    peak.bf16 = peak.fp32;
  } else if (isa == CpuIsa::kAvx512 || isa == CpuIsa::kAmx) {
    const bool amx = isa == CpuIsa::kAmx;
    peak.fp32 = RateOf(kFp32Avx512, pool);
    peak.bf16 = RateOf(amx ? kBf16Amx : kBf16Avx512, pool);
    if (amx) {
      peak.int8 = RateOf(kInt8Amx, pool);
    } else if (__builtin_cpu_supports("avx512vnni")) {
      peak.int8 = RateOf(kInt8Avx512, pool);
    }
  }
  return peak;
}

}  // namespace descant::bench
