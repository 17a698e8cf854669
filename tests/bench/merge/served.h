// What the parts of merge_bench share: engines on the demo model, adapters, and
// closed loads on them.
#ifndef DESCANT_TESTS_BENCH_MERGE_SERVED_H_
#define DESCANT_TESTS_BENCH_MERGE_SERVED_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "runtime/base/clock.h"
#include "runtime/engine.h"
#include "runtime/model/cpu_runner.h"
#include "runtime/model/model.h"

namespace descant::bench {

// A ~ N(0, 0.02), B ~ N(0, 0.01), bf16, alpha twice the rank: on q and v, or on
// all linear modules.
std::shared_ptr<const Adapter> MakeBenchAdapter(const BaseShape& base,
                                                const std::string& name,
                                                int32_t rank, bool all_modules,
                                                uint64_t seed);

// Requests one behind the other, all on one adapter (null: none).
struct Load {
  std::shared_ptr<const Adapter> adapter;
  int requests = 64;
  int in_flight = 32;
  int prompt = 128;
  int output = 64;
};

// One answer of a load.
struct Answered {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;
  std::vector<MonotonicTime> times;  // of its tokens
};

// An engine on the CPU runner, alone in having its requests. An error ends the
// process.
class Served {
 public:
  Served(const LoadedModel& model, bool hot_merge, uint64_t merge_memory = 0);
  ~Served();

  // Greedy, prompts from `random`. All of the first load, then all of the
  // second, ...: while a load's last requests run, those of the next one join
  // them. Seconds; `answers` may be null.
  double Run(const std::vector<Load>& loads, std::mt19937_64* random,
             std::vector<Answered>* answers = nullptr);
  void SetMode(MergeMode mode, const std::shared_ptr<const Adapter>& adapter);
  // Waits, with requests for it, until it is merged.
  void WaitForMerge(const std::shared_ptr<const Adapter>& adapter,
                    std::mt19937_64* random);
  MergeReport Merges();
  // Scores the answers' tokens, each on the prefix that it had: how far below
  // the likeliest the farthest is, how many there are, and how many aren't the
  // likeliest.
  float WidestGap(const std::vector<Answered>& answers,
                  const std::shared_ptr<const Adapter>& adapter,
                  int64_t* tokens, int64_t* flips);
  const CpuRunner& runner() const { return *runner_; }
  Engine& engine() { return *engine_; }

 private:
  const LoadedModel model_;
  SystemClock clock_;
  const CpuRunner* runner_ = nullptr;  // engine_'s
  std::unique_ptr<Engine> engine_;
  uint64_t last_id_ = 0;
};

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_MERGE_SERVED_H_
