#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/bench/merge/parts.h"
#include "tests/bench/merge/served.h"

namespace descant::bench {
namespace {

using Adapters = std::vector<std::shared_ptr<const Adapter>>;

// Two adapters by turns, each for more than a second. The shorter a piece, the
// less of what else the machine does falls on one of a pair alone.
std::vector<Load> Alternating(const Adapters& adapters, int piece) {
  return {{adapters[piece % 2], 16, 16, 64, 64}};
}

// Bursts of one, now and then another or the base between them, of random
// lengths.
std::vector<Load> Bursty(const Adapters& adapters, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Load> loads;
  for (int i = 0; i < 2; ++i) {
    const uint64_t who = random() % 8;
    Load load{who < 5 ? adapters[0] : (who < 7 ? adapters[1] : nullptr)};
    load.requests = 4 + static_cast<int>(random() % 24);
    load.in_flight = 16;
    load.prompt = 64;
    loads.push_back(load);
  }
  return loads;
}

struct Trace {
  std::string name;
  Adapters adapters;
  bool bursty = false;
};

MergeStats StatsOf(Served* served) { return served->engine().Stats().merges; }

// Of one piece. `before`: as the engine that merges was at its beginning.
void PrintPiece(const Trace& trace, const double (&seconds)[2],
                const MergeStats& before, const MergeStats& after) {
  std::printf(
      "%s: off %.3f s, auto %.3f s; %llu merged steps, %llu switches, %.3f s "
      "of rehearsals, %llu builds\n",
      trace.name.c_str(), seconds[0], seconds[1],
      static_cast<unsigned long long>(after.merged_steps - before.merged_steps),
      static_cast<unsigned long long>(after.switches - before.switches),
      after.measure_seconds - before.measure_seconds,
      static_cast<unsigned long long>(after.builds - before.builds));
  std::fflush(stdout);
}

// A long trace, cut into as many pieces as there are pairs: both engines are
// new at its beginning, and each piece is run on one and then on the other. The
// whole has what merging learns and builds in it.
void RunTrace(MergeBench* bench, const Trace& trace, std::mt19937_64* random) {
  Served plain(bench->model, false);
  Served merging(bench->model, true);
  for (Served* served : {&plain, &merging}) {
    std::mt19937_64 prompts(bench->seed);
    served->Run({{nullptr, 16, 16, 64, 16}}, &prompts);
  }
  std::vector<double> ratios;
  double totals[2] = {0, 0};
  for (int piece = 0; piece < bench->pairs; ++piece) {
    const uint64_t seed = (*random)();
    const MergeStats before = StatsOf(&merging);
    const std::vector<Load> loads = trace.bursty
                                        ? Bursty(trace.adapters, seed)
                                        : Alternating(trace.adapters, piece);
    double seconds[2];
    for (int turn = 0; turn < 2; ++turn) {
      // (Either is first as often for one adapter as for the other.)
      const bool merge = (turn + piece / 2) % 2 == 0;
      std::mt19937_64 prompts(seed);
      seconds[merge] = (merge ? merging : plain).Run(loads, &prompts);
      totals[merge] += seconds[merge];
    }
    ratios.push_back(seconds[0] / seconds[1]);
    PrintPiece(trace, seconds, before, StatsOf(&merging));
  }
  bench->Ratio(absl::StrCat(trace.name, ": throughput, auto / off"), ratios,
               0.99, /*interval=*/true);
  const MergeStats stats = StatsOf(&merging);
  std::printf(
      "in all: off %.1f s, auto %.1f s (%.4f); %llu of its steps merged, %llu "
      "builds of %.2f s, %.2f s of rehearsals\n",
      totals[0], totals[1], totals[0] / totals[1],
      static_cast<unsigned long long>(stats.merged_steps),
      static_cast<unsigned long long>(stats.builds), stats.build_seconds,
      stats.measure_seconds);
}

}  // namespace

void Traces(MergeBench* bench) {
  std::mt19937_64 random(bench->seed);
  const BaseShape& base = bench->model.model->base_shape;
  for (const bool wide : {true, false}) {
    Trace trace;
    for (int i = 0; i < 2; ++i) {
      trace.adapters.push_back(MakeBenchAdapter(base, absl::StrCat("a", i),
                                                wide ? 64 : 8, wide, random()));
    }
    for (const bool bursty : {false, true}) {
      trace.bursty = bursty;
      trace.name = absl::StrCat(bursty ? "bursty" : "alternating",
                                wide ? ", rank 64 on all" : ", rank 8 on q, v");
      if (absl::StrContains(trace.name, bench->trace)) {
        RunTrace(bench, trace, &random);
      }
    }
  }
}

}  // namespace descant::bench
