#include <cstdio>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/bench/merge/parts.h"
#include "tests/bench/merge/served.h"

namespace descant::bench {

void OneAdapter(MergeBench* bench) {
  const struct {
    const char* name;
    int32_t rank;
    bool all_modules;
  } kinds[] = {{"rank 8 on q, v", 8, false},
               {"rank 64 on all linear modules", 64, true}};
  Served merging(bench->model, true);
  Served plain(bench->model, false);
  std::mt19937_64 random(bench->seed);
  for (const auto& kind : kinds) {
    const auto adapter =
        MakeBenchAdapter(bench->model.model->base_shape, kind.name, kind.rank,
                         kind.all_modules, random());
    merging.SetMode(MergeMode::kPinned, adapter);
    merging.WaitForMerge(adapter, &random);
    std::vector<double> merged_ratios;
    std::vector<double> unmerged_ratios;
    for (int pair = 0; pair <= bench->pairs; ++pair) {
      // The same prompts for all three, in turn; first of all once unmeasured.
      const uint64_t prompts = random();
      const auto run = [&](Served* served, bool with_adapter) {
        std::mt19937_64 mine(prompts);
        return served->Run({{with_adapter ? adapter : nullptr}}, &mine);
      };
      const double base = run(&merging, false);
      const double merged = run(&merging, true);
      if (pair == 0) continue;
      merged_ratios.push_back(base / merged);
      // Far from 1: fewer will do.
      if (pair % 3 != 1) continue;
      const double unmerged = run(&plain, true);
      unmerged_ratios.push_back(base / unmerged);
      std::printf("%s: tokens/s base %.1f merged %.1f unmerged %.1f\n",
                  kind.name, 64 * 64 / base, 64 * 64 / merged,
                  64 * 64 / unmerged);
      std::fflush(stdout);
    }
    bench->Ratio(absl::StrCat(kind.name, ": merged / base"), merged_ratios,
                 0.995);
    bench->Ratio(absl::StrCat(kind.name, ": unmerged / base"), unmerged_ratios,
                 0);
    merging.SetMode(MergeMode::kForbidden, adapter);
  }
}

}  // namespace descant::bench
