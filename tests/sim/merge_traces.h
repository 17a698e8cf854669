// Traces of a server's steps, run with MergePolicy, without merging, and with
// the best choice of builds in hindsight.
#ifndef DESCANT_TESTS_SIM_MERGE_TRACES_H_
#define DESCANT_TESTS_SIM_MERGE_TRACES_H_

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "runtime/core/merge_policy.h"

namespace descant {

struct TraceSettings {
  uint64_t seed = 1;
  double gain = 0.1;         // of the adapter that has most, at 8 rows
  double build_seconds = 1;  // of one core
  int32_t copies = 1;        // that fit into the memory
  double trace_seconds = 240;

  std::string Text() const;
};

// What the server has to do next.
struct TraceWork {
  static constexpr int32_t kMixed = -1;
  static constexpr int32_t kIdle = -2;
  int32_t adapter = kMixed;
  int32_t rows = 8;
  double idle_seconds = 0;
};

// A step as it came to be, once it was: either way it would have gone.
struct TraceStep {
  int32_t adapter = TraceWork::kMixed;
  double unmerged_seconds = 0;
  double merged_seconds = 0;
};

// What an adversary may look at.
class MergeStates {
 public:
  virtual ~MergeStates() = default;
  virtual bool HasWeights(int32_t adapter) const = 0;
  virtual bool IsMerged(int32_t adapter) const = 0;
};

// Gives the work at a time.
using TraceSource = std::function<TraceWork(double now, const MergeStates&)>;

struct TraceFamily {
  std::string name;
  // Parts of TraceSettings::gain that adapters have; others have the last.
  std::vector<double> gains;
  std::function<TraceSource(const TraceSettings&)> source;
  // False: the adapter goes because it was merged. Whoever doesn't know the
  // future saves nothing then, whatever the rule; who does saves nearly the
  // gain.
  bool predictable = true;
};

std::vector<TraceFamily> TraceFamilies();

struct TraceResult {
  double off = 0;     // without merging
  double policy = 0;  // with MergePolicy
  // No choice of builds, even with the future known, has less: see
  // LeastSeconds.
  double oracle = 0;
  double rehearsals = 0;     // part of `policy`
  double build_seconds = 0;  // the same
  int32_t builds = 0;
  int32_t builds_without_gain = 0;  // begun for an unknown or negative gain
};

TraceResult RunTrace(const TraceFamily& family, const TraceSettings& settings);

// At least what the steps take, whoever chooses what is merged: the exact
// optimum where weights are there the moment that their build begins, nothing
// is measured or checked, and each build costs `build_seconds`. With more
// adapters than kMostInMemory, memory is taken to be enough, which is no more.
double LeastSeconds(const std::vector<TraceStep>& steps, double build_seconds,
                    int32_t copies);
inline constexpr int32_t kMostInMemory = 8;

}  // namespace descant

#endif  // DESCANT_TESTS_SIM_MERGE_TRACES_H_
