// One seed's events, and the checks after each.
#ifndef DESCANT_TESTS_SIM_SIMULATION_H_
#define DESCANT_TESTS_SIM_SIMULATION_H_

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/core/scheduler.h"
#include "tests/sim/block_writers.h"
#include "tests/sim/fairness_bound.h"
#include "tests/sim/simulated_client.h"
#include "tests/testing/fake_runner.h"

namespace descant {

inline constexpr int64_t kMaxSteps = 200000;
inline const std::vector<int32_t> kEos = {0};

class Simulation {
 public:
  explicit Simulation(uint64_t seed);

  // To the end of the last request, with every check.
  void Run();

  // What it reached.
  uint64_t preemptions() const { return scheduler_->preemptions(); }
  uint64_t loaded() const { return loaded_; }
  uint64_t several_done() const { return several_done_; }
  uint64_t shared() const { return runner_->shared_entries(); }
  uint64_t cached() const { return cached_; }
  uint64_t taken() const { return taken_; }
  uint64_t unloaded() const { return unloaded_; }
  uint64_t bounds_checked() const { return fairness_->checked(); }
  double closest_to_bound() const { return fairness_->closest(); }
  const SpeculationCounts& speculation() const {
    return scheduler_->speculation();
  }

 private:
  int32_t Pick(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() %
                                      static_cast<uint64_t>(high - low + 1));
  }
  bool Chance(int32_t percent) { return Pick(0, 99) < percent; }
  // Of what came to the simulation later: old seeds stay what they are.
  int32_t PickLater(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(later_() %
                                      static_cast<uint64_t>(high - low + 1));
  }
  int32_t PickForDrafts(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(for_drafts_() %
                                      static_cast<uint64_t>(high - low + 1));
  }

  // simulation.cc
  void PlainStep();
  void PipelinedStep();
  void Launch();
  void Finish();
  void ClearTainted();

  // simulation_clients.cc
  void MakeClients();
  void Disturb();
  void Take(const StepOutput* output);
  bool Done() const;
  std::string Unfinished() const;
  void CheckAnswer(const Client& client);

  // simulation_slots.cc
  void CheckLimits();
  void CheckEviction(int32_t slot, const Adapter& wanted);
  void Operate();
  void BeginLoads();
  void EndLoads();
  void EndLoad(int32_t slot);
  bool AnyRetired() const;
  bool OthersLoaded(int32_t slot) const;

  // What a tenant may have.
  struct Limits {
    SlotLimits slots;
    int32_t cached_blocks = 0;
  };

  std::mt19937_64 random_;
  std::mt19937_64 later_;
  std::mt19937_64 for_drafts_;
  std::map<std::string, Limits> limits_;  // by tenant
  std::unique_ptr<FairnessBound> fairness_;
  std::map<int32_t, int64_t> loading_since_;  // by slot
  std::unique_ptr<FakeRunner> runner_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<RequestId, Client> clients_;
  MonotonicTime now_{std::chrono::seconds(1)};
  int64_t step_ = 0;
  uint64_t several_done_ = 0;
  struct Load {
    int32_t slot;
    int64_t due;  // the step it ends in
  };
  std::vector<Load> loads_;  // in the order of their beginning
  std::vector<std::shared_ptr<const Adapter>> all_adapters_;
  std::vector<SlotLease> pins_;  // before scheduler_ goes, Run empties it
  uint64_t loaded_ = 0;
  BlockWriters writers_;
  // Of sequences that finished.
  uint64_t drafted_ = 0;
  uint64_t accepted_ = 0;
  uint64_t cached_ = 0;  // tokens of prompts found in the prefix cache
  uint64_t taken_ = 0;   // slots that went from one tenant to another
  uint64_t unloaded_ = 0;
  bool pins_fill_ = false;
  bool operated_ = false;
  bool slow_loads_ = false;
  bool pipelined_ = false;
  bool faults_ = false;
  bool pauses_ = false;
  bool in_flight_ = false;
  int32_t launched_rows_ = 0;
};

}  // namespace descant

#endif  // DESCANT_TESTS_SIM_SIMULATION_H_
