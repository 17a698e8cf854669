// The parts of merge_bench.
#ifndef DESCANT_TESTS_BENCH_MERGE_PARTS_H_
#define DESCANT_TESTS_BENCH_MERGE_PARTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "runtime/model/model.h"

namespace descant::bench {

struct MergeBench {
  LoadedModel model;
  int pairs = 21;
  int cycles = 1000;
  uint64_t seed = 1;
  bool untimed = false;  // nothing that depends on time is held to a bar
  // Cycles of an adapter of rank 8 on q and v, which is built in a tenth of the
  // time; not of rank 16 on all.
  bool narrow = false;
  std::string trace;  // only those whose name has this in it
  nlohmann::json results;
  bool failed = false;

  // A ratio's median over pairs, with its interval of at least 95 %; `bar` 0:
  // none. Interval: it is the lower end that is held against the bar.
  void Ratio(const std::string& what, const std::vector<double>& samples,
             double bar, bool interval = false);
  void Value(const std::string& what, double value, double most,
             const std::string& unit);
};

// An adapter that owns the traffic: merged and unmerged beside the base.
void OneAdapter(MergeBench* bench);
// Adapters that come and go: with --hot-merge=auto beside off.
void Traces(MergeBench* bench);
// Merged and dropped over and over, while it is asked.
void Cycles(MergeBench* bench);

}  // namespace descant::bench

#endif  // DESCANT_TESTS_BENCH_MERGE_PARTS_H_
