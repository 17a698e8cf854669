#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "runtime/model/merged_weights.h"
#include "server/cli/bench/statistics.h"
#include "tests/bench/merge/parts.h"
#include "tests/bench/merge/served.h"

namespace descant::bench {
namespace {

using Clock = std::chrono::steady_clock;

double ResidentMebibytes() {
  ::malloc_trim(0);
  std::ifstream statm("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  statm >> size >> resident;
  return static_cast<double>(resident * ::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

// What the bench keeps itself.
double MebibytesOf(const std::vector<Answered>& answers) {
  size_t bytes = answers.capacity() * sizeof(Answered);
  for (const Answered& answered : answers) {
    bytes += (answered.prompt.capacity() + answered.tokens.capacity()) *
                 sizeof(int32_t) +
             answered.times.capacity() * sizeof(MonotonicTime);
  }
  return static_cast<double>(bytes) / (1 << 20);
}

// Milliseconds between tokens.
std::vector<double> Gaps(const std::vector<Answered>& answers) {
  std::vector<double> gaps;
  for (const Answered& answered : answers) {
    for (size_t i = 1; i < answered.times.size(); ++i) {
      gaps.push_back(1e3 *
                     ToSeconds(answered.times[i] - answered.times[i - 1]));
    }
  }
  return gaps;
}

// The adapter's requests, one load behind the other, on a thread of its own.
class Traffic {
 public:
  Traffic(Served* served, std::shared_ptr<const Adapter> adapter, uint64_t seed)
      : thread_([this, served, adapter, seed] {
          std::mt19937_64 random(seed);
          while (!stop_) {
            served->Run({{adapter, 8, 4, 16, 64}}, &random, &answers_);
          }
        }) {}
  std::vector<Answered> Stop() {
    stop_ = true;
    thread_.join();
    return std::move(answers_);
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<Answered> answers_;
  std::thread thread_;
};

MergeStatus StatusOf(Served* served, const Adapter& adapter) {
  for (const MergeStatus& status : served->Merges().adapters) {
    if (SameKey(status.record.key, KeyOf(adapter))) return status;
  }
  return {};
}

void WaitForState(Served* served, const Adapter& adapter, MergeState state) {
  while (StatusOf(served, adapter).record.state != state) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void WaitForMergedSteps(Served* served, const Adapter& adapter,
                        uint64_t steps) {
  const uint64_t before = StatusOf(served, adapter).record.merged_steps;
  while (StatusOf(served, adapter).record.merged_steps < before + steps) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace

void Cycles(MergeBench* bench) {
  std::mt19937_64 random(bench->seed);
  const auto adapter =
      MakeBenchAdapter(bench->model.model->base_shape, "hot",
                       bench->narrow ? 8 : 16, !bench->narrow, random());
  Served served(bench->model, true);
  const auto packed = served.runner().weights().packed();
  const std::vector<std::byte> before(packed.begin(), packed.end());
  const auto cycle = [&] {
    served.SetMode(MergeMode::kPinned, adapter);
    WaitForState(&served, *adapter, MergeState::kMerged);
    WaitForMergedSteps(&served, *adapter, 5);
    served.SetMode(MergeMode::kForbidden, adapter);
    WaitForState(&served, *adapter, MergeState::kUnmerged);
  };
  // Before anything is measured: all memory that steps and builds touch, and
  // the comparison with unmerged steps, which the first merge has.
  served.SetMode(MergeMode::kForbidden, adapter);
  Traffic warm(&served, adapter, random());
  for (int i = 0; i < 3; ++i) cycle();
  warm.Stop();
  const double memory = ResidentMebibytes();

  Traffic quiet(&served, adapter, random());
  std::this_thread::sleep_for(std::chrono::seconds(bench->untimed ? 1 : 30));
  const double quiet_p99 = cli::Quantile(Gaps(quiet.Stop()), 0.99);

  Traffic load(&served, adapter, random());
  for (int i = 0; i < bench->cycles; ++i) {
    cycle();
    if ((i + 1) % 100 == 0) {
      std::printf("%d cycles\n", i + 1);
      std::fflush(stdout);
    }
  }
  const std::vector<Answered> answers = load.Stop();
  const double p99 = cli::Quantile(Gaps(answers), 0.99);
  const double memory_after = ResidentMebibytes() - MebibytesOf(answers);
  const MergeStatus status = StatusOf(&served, *adapter);
  std::printf(
      "%llu builds, %.3f s of one core each; %llu merged steps; gain "
      "%.3f\n",
      static_cast<unsigned long long>(status.record.builds),
      status.record.build_seconds,
      static_cast<unsigned long long>(status.record.merged_steps),
      status.record.gain.value_or(0));
  std::printf(
      "quiet p99 ITL %.2f ms, during cycles %.2f ms; %.1f MiB before, "
      "%.1f after\n",
      quiet_p99, p99, memory, memory_after);
  bench->Value("bytes of the base's weights that changed",
               std::memcmp(before.data(), packed.data(), packed.size()) != 0, 0,
               "");
  if (!bench->untimed) {
    bench->Value("p99 ITL during cycles / quiet", p99 / quiet_p99, 1.3, "x");
  }
  bench->Value("memory after / before", memory_after / memory, 1.02, "x");

  Served plain(bench->model, false);
  int64_t tokens = 0;
  int64_t flips = 0;
  const float widest = plain.WidestGap(answers, adapter, &tokens, &flips);
  std::printf("%lld tokens, %lld of them not the unmerged ones' likeliest\n",
              static_cast<long long>(tokens), static_cast<long long>(flips));
  bench->Value("unmerged log-probability below the likeliest, widest", widest,
               2 * kMergeTolerance, "");
}

}  // namespace descant::bench
