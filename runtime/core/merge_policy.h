// When an adapter is merged into weights of its own, and which steps use them.
// A pure value machine: measured times in, decisions out; no thread, tensor or
// clock.
//
// Merged weights serve steps whose rows all belong to one adapter; any other
// step runs unmerged. Requests are scheduled as ever, so nobody waits for a
// merge: the bound on what it delays others by is zero steps. (dLoRA, Wu et
// al., OSDI 2024, gathers requests of one adapter on purpose, and needs credits
// against starvation. On one machine a mixed batch costs less than the steps
// that such waiting adds.)
//
// What merging would save is measured before anything is built: some steps are
// computed twice, first without their adapter, and the two times are compared.
// The part that the adapter takes of a step, times the steps that it had for
// itself lately, is what merged weights would have saved. When that is
// `threshold` times what building them costs they are built, as in the ski
// rental problem: whoever knows the future pays at least half as much. What
// they saved until they are dropped moves the threshold, as dLoRA's AIMD does:
// down a little if it was worth their cost, up by a factor if not.
//
// That alone may lose as much as it saves, to adapters that come, are built and
// go. So what builds and rehearsals take is a debt, paid off by what merged
// steps save and by kLossShare of the time of the adapters' own steps; and with
// more than kFreeDebt of it nothing is built or measured. All that merging ever
// loses is that share, kFreeDebt and one build: see merge_traces_test.cc.
//
// Where memory is short, merged weights are kept by the Landlord rule (Young,
// "On-line file caching", 1998), of one challenger at a time: they have credit
// of what they cost, earn what they save, and pay what the adapter that would
// save most in their place does not.
#ifndef DESCANT_RUNTIME_CORE_MERGE_POLICY_H_
#define DESCANT_RUNTIME_CORE_MERGE_POLICY_H_

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "adapters/adapter_key.h"
#include "runtime/core/gain_samples.h"

namespace descant {

// What operators wish for an adapter.
enum class MergeMode : uint8_t {
  kAuto,       // by measurement
  kPinned,     // merged, whatever it saves
  kForbidden,  // never
};

enum class MergeState : uint8_t {
  kUnmerged,
  kBuilding,
  kChecking,  // built; some steps are compared with unmerged ones
  kMerged,    // steps that the adapter has for itself use its weights
  kRefused,   // its weights could not be built, or gave other tokens
};

// How a step whose rows all belong to one adapter is computed.
enum class MergeStep : uint8_t {
  kUnmerged,
  kMerged,
  kMeasure,  // unmerged, after a rehearsal without the adapter
  kCheck,    // unmerged, after a rehearsal with the merged weights
};

// What is known of an adapter.
struct MergeRecord {
  AdapterKey key;
  MergeMode mode = MergeMode::kAuto;
  MergeState state = MergeState::kUnmerged;
  std::string reason;  // of the state, in words
  uint64_t bytes = 0;  // of its merged weights, there or not
  // The part of an unmerged step's time that merging saves, in the sizes of
  // steps that it had lately; absent: not measured yet.
  std::optional<double> gain;
  int32_t samples = 0;        // that `gain` rests on
  double alone_seconds = 0;   // of steps that it had for itself
  double recent_seconds = 0;  // the same, older ones fading
  uint64_t merged_steps = 0;
  uint64_t builds = 0;
  double build_seconds = 0;    // of one core, by its last build
  double measure_seconds = 0;  // of rehearsals
  double saved_seconds = 0;    // by merged steps, costs not counted
  double threshold = 1;        // see above
};

// Times are in seconds, of one monotonic clock. Thread-compatible.
class MergePolicy {
 public:
  // `memory`: bytes that merged weights may take together.
  explicit MergePolicy(uint64_t memory) : memory_(memory) {}

  // How to compute the next step, whose rows all belong to the adapter.
  // `bytes`: of its merged weights. Allocates for its first step only.
  MergeStep PlanStep(double now, AdapterKeyView adapter, uint64_t bytes,
                     int32_t rows);
  // A step of the adapter's own took `seconds`, computed like `how`, and the
  // rehearsal before it, if it had one, `rehearsal_seconds`.
  void StepTook(double now, AdapterKeyView adapter, MergeStep how, int32_t rows,
                double seconds, double rehearsal_seconds = 0);

  // To be called between steps, and carried out: merged weights that are
  // dropped, and those to build, of which BuildEnded is told. One build at a
  // time.
  struct Decision {
    std::vector<AdapterKey> drop;
    std::optional<AdapterKey> build;
  };
  void Decide(double now, Decision* decision);

  // The build at hand took `seconds` of one core. `problem`: why it failed, or
  // empty. `bytes`: that it takes; 0: as PlanStep said. False: what was built
  // is dropped.
  bool BuildEnded(double now, double seconds, absl::string_view problem,
                  uint64_t bytes = 0);
  // Merged weights were compared on a step's own rows. `problem`: empty where
  // they held. False: they are dropped.
  bool CheckEnded(double now, AdapterKeyView adapter,
                  absl::string_view problem);

  // An operator's wish. A refused adapter has another try, unless it is
  // forbidden. RESOURCE_EXHAUSTED MERGE_MEMORY_FULL: a pin does not fit beside
  // other pins, or there are kMostWishes.
  absl::Status SetMode(double now, AdapterKeyView adapter, uint64_t bytes,
                       MergeMode mode);

  // Those that had steps for themselves lately, or for whom a wish holds; by
  // tenant and digest.
  std::vector<MergeRecord> Records(double now) const;
  uint64_t memory_used() const { return memory_used_; }
  uint64_t memory_capacity() const { return memory_; }

  // The last changes of state, oldest first.
  struct Event {
    double when = 0;
    AdapterKey key;
    MergeState state = MergeState::kUnmerged;
    std::string reason;
  };
  static constexpr size_t kMostEvents = 256;
  const std::deque<Event>& history() const { return history_; }

  // Merged weights that no step used for so long are dropped.
  static constexpr double kIdleSeconds = 300;
  // Adapters remembered; those without a wish or weights that had no step for
  // longest go first, some at once.
  static constexpr size_t kMostAdapters = 1024;
  static constexpr size_t kMostWishes = 512;
  // Rehearsals that measure take no more than this, times the square of the
  // gain that they may still show, of the time of an adapter's own steps: 3 %
  // for one of 0.3, 0.08 % for one of 0.05. The smaller a gain, the less it
  // saves, and the more pairs it takes to see it.
  static constexpr double kMeasureShare = 0.33;
  // What merging may lose: of the time of the adapters' own steps; and at once,
  // in seconds.
  static constexpr double kLossShare = 0.004;
  static constexpr double kFreeDebt = 0.5;

 private:
  // Of what fades, half does in so many seconds.
  static constexpr double kHalfLife = 300;
  // Pairs that a gain rests on, at least.
  static constexpr int32_t kFewestPairs = 7;
  static constexpr int32_t kStepsBetweenRehearsals = 4;

  // A sum whose parts fade, half of them in kHalfLife.
  struct Fading {
    double sum = 0;
    double when = 0;
    double At(double now) const;
    void Add(double now, double part);
  };
  // Steps of about the same rows: a power of two to the next.
  static constexpr int32_t kSizes = 16;
  struct Size {
    GainSamples gains;
    // Once the gain turned out to be none: alone_seconds at which it is
    // measured again, and how long that was put off.
    double measure_at = 0;
    double put_off = 0;
    // Steps since the last change of state: their seconds, and how many.
    Fading unmerged;
    Fading unmerged_steps;
    // Of the merged steps since the last unmerged one, the last three.
    std::array<double, 3> merged{};
    uint32_t merged_count = 0;
    int32_t merged_rows = 0;  // of each of them
    int32_t steps_until_trial = 0;
  };
  struct Entry {
    MergeRecord record;
    std::array<Size, kSizes> sizes;
    Fading recent;
    double last_step = 0;
    double last_use = 0;  // the last merged step that saved something
    int32_t steps_until_rehearsal = 0;
    int32_t checks_left = 0;
    bool passed_checks = false;  // once: the same weights come out again
    bool to_look_at = false;     // it is in to_look_at_
    double saved = 0;            // since the build
    double credit = 0;
    bool has_weights = false;  // or they are being built
  };

  // merge_policy.cc: what steps take, with and without.
  static int32_t SizeOf(int32_t rows);
  static std::optional<int32_t> NearestMeasured(const Entry& entry,
                                                int32_t size);
  static double SureGain(const Entry& entry, int32_t size);
  static bool IsClearGain(const GainSamples& gains);
  static double ForgoneOf(const Entry& entry, double now);
  static void FillGain(const Entry& entry, double now, MergeRecord* record);
  double CostOf(const Entry& entry) const;
  Entry* EntryOf(double now, AdapterKeyView adapter, uint64_t bytes);
  Entry* FindEntry(AdapterKeyView adapter) const;
  bool ForgetOldest();
  static bool IsSettled(Entry* entry, int32_t size);
  static double HopedGain(const GainSamples& gains);
  bool MayPay(double now, const Entry& entry, int32_t size) const;
  static int32_t SizeToMeasure(double now, const Entry& entry);
  bool WantsMeasurement(double now, Entry* entry, int32_t size) const;
  static MergeStep PlanMerged(Entry* entry, int32_t size);
  static void CompareAcrossSteps(Entry* entry, MergeStep how, int32_t rows,
                                 double seconds);
  void MergedStepTook(double now, Entry* entry, int32_t size, double seconds);

  // merge_policy_builds.cc: what is built, kept and dropped.
  void SetState(double now, Entry* entry, MergeState state, std::string reason);
  void Drop(double now, Entry* entry, MergeState state, std::string reason,
            std::vector<AdapterKey>* drop);
  void JudgeBuild(Entry* entry) const;
  void DropUnused(double now, std::vector<AdapterKey>* drop);
  bool MayHaveWeights(const Entry& entry) const;
  bool IsWorthBuilding(const Entry& entry, double now) const;
  void FindChallenger(double now);
  bool MakeRoom(double now, const Entry& entry, std::vector<AdapterKey>* drop);
  void Begin(double now, Entry* entry, Decision* decision);
  void LookAt(Entry* entry);
  void StartUse(double now, Entry* entry);
  bool EndBuildUnused(double now, Entry* entry, absl::string_view problem);
  absl::Status RoomForWish(AdapterKeyView adapter, uint64_t bytes,
                           MergeMode mode) const;
  std::string WhyUnmerged(const Entry& entry, double now) const;

  const uint64_t memory_;
  uint64_t memory_used_ = 0;
  AdapterKeyMap<std::unique_ptr<Entry>> entries_;
  std::vector<Entry*> holders_;  // those that have weights
  Entry* building_ = nullptr;
  // Lacks memory, and would save most of those that do.
  Entry* challenger_ = nullptr;
  std::vector<Entry*> to_look_at_;  // had steps or wishes since Decide looked
  double next_look_ = 0;
  double debt_ = 0;  // seconds that merging took and nothing brought in yet
  // Of one core, a byte of merged weights; until something was built a guess.
  double build_seconds_per_byte_ = 2e-9;
  std::deque<Event> history_;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_MERGE_POLICY_H_
