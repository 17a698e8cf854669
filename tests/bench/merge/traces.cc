#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/merge/parts.h"
#include "tests/bench/merge/served.h"

namespace descant::bench {
namespace {

using Adapters = std::vector<std::shared_ptr<const Adapter>>;

// Two adapters by turns, each for some seconds.
std::vector<Load> Alternating(const Adapters& adapters) {
  std::vector<Load> loads;
  for (int i = 0; i < 6; ++i) {
    loads.push_back({adapters[i % 2], 32, 16, 64, 64});
  }
  return loads;
}

// Bursts of one, now and then another or the base between them, of random
// lengths.
std::vector<Load> Bursty(const Adapters& adapters, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Load> loads;
  for (int i = 0; i < 12; ++i) {
    const uint64_t who = random() % 8;
    Load load{who < 5 ? adapters[0] : (who < 7 ? adapters[1] : nullptr)};
    load.requests = 4 + static_cast<int>(random() % 32);
    load.in_flight = 16;
    load.prompt = 64;
    loads.push_back(load);
  }
  return loads;
}

}  // namespace

// Engines are new for each run: what it learns and builds is in the time.
void Traces(MergeBench* bench) {
  std::mt19937_64 random(bench->seed);
  const BaseShape& base = bench->model.model->base_shape;
  for (const bool wide : {true, false}) {
    Adapters adapters;
    for (int i = 0; i < 2; ++i) {
      adapters.push_back(MakeBenchAdapter(base, absl::StrCat("a", i),
                                          wide ? 64 : 8, wide, random()));
    }
    for (const bool bursty : {false, true}) {
      std::vector<double> ratios;
      double steps = 0;
      for (int pair = 0; pair < bench->pairs; ++pair) {
        const uint64_t seed = random();
        const std::vector<Load> loads =
            bursty ? Bursty(adapters, seed) : Alternating(adapters);
        double seconds[2];
        for (int turn = 0; turn < 2; ++turn) {
          const bool merge = (turn + pair) % 2 == 0;
          Served served(bench->model, merge);
          std::mt19937_64 prompts(seed);
          served.Run({{nullptr, 16, 16, 64, 16}}, &prompts);
          seconds[merge] = served.Run(loads, &prompts);
          if (merge) {
            steps += static_cast<double>(
                served.engine().Stats().merges.merged_steps);
          }
        }
        ratios.push_back(seconds[0] / seconds[1]);
        std::printf("%s %s: off %.2f s, auto %.2f s\n",
                    wide ? "rank 64" : "rank 8",
                    bursty ? "bursty" : "alternating", seconds[0], seconds[1]);
        std::fflush(stdout);
      }
      bench->Ratio(absl::StrCat(bursty ? "bursty" : "alternating",
                                wide ? ", rank 64 on all" : ", rank 8 on q, v",
                                ": throughput, auto / off"),
                   ratios, 0.99, /*interval=*/true);
      std::printf("merged steps a run: %.0f\n", steps / bench->pairs);
    }
  }
}

}  // namespace descant::bench
