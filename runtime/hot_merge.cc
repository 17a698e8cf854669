#include "runtime/hot_merge.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "adapters/adapter.h"
#include "runtime/base/log.h"

namespace descant {
namespace {

uint64_t MemoryOf(const Runner& runner, uint64_t memory) {
  return memory != 0 ? memory : kUsualMerges * runner.MostMergedBytes();
}

// For pins of adapters that are gone.
constexpr double kSecondsBetweenLooks = 5;
constexpr double kSecondsBetweenCounts = 1;

std::string LabelOf(const AdapterKey& key, const std::string& name) {
  return key.tenant.empty() ? name : absl::StrCat(key.tenant, "/", name);
}

}  // namespace

HotMerge::HotMerge(Runner* runner, const Clock* clock, uint64_t memory,
                   std::function<void()> wake)
    : runner_(runner),
      clock_(clock),
      policy_(MemoryOf(*runner, memory)),
      builder_(runner, std::move(wake)) {}

int32_t HotMerge::SlotOf(const Batch& batch) {
  if (batch.segments.size() != 1) return kNoSlot;
  const Segment& segment = batch.segments.front();
  return segment.row_begin == 0 && segment.row_end == batch.rows() &&
                 segment.weight == 1.0f
             ? segment.slot
             : kNoSlot;
}

HotMerge::Known& HotMerge::KnownOf(
    const std::shared_ptr<const Adapter>& adapter) {
  const auto found = known_.find(KeyOf(*adapter));
  if (found != known_.end()) {
    found->second.adapter = adapter;
    if (found->second.name != adapter->name) found->second.name = adapter->name;
    return found->second;
  }
  ForgetOthers();
  Known& known = known_[AdapterKey(*adapter)];
  known.adapter = adapter;
  known.name = adapter->name;
  known.bytes = runner_->MergedBytes(*adapter);
  return known;
}

// The policy remembers as many as it can; those that it forgot go.
void HotMerge::ForgetOthers() {
  if (known_.size() < 2 * MergePolicy::kMostAdapters) return;
  AdapterKeyMap<Known> kept;
  for (const MergeRecord& record : policy_.Records(Now())) {
    const auto found = known_.find(record.key);
    if (found != known_.end()) kept.insert(std::move(*found));
  }
  known_ = std::move(kept);
}

bool HotMerge::Rehearse(const Batch& batch, const MergedWeights* weights) {
  const MonotonicTime begin = clock_->Now();
  const absl::Status status = runner_->Rehearse(batch, weights);
  step_.rehearsal_seconds = std::max(ToSeconds(clock_->Now() - begin), 1e-9);
  counts_.measure_seconds += step_.rehearsal_seconds;
  if (status.ok()) return true;
  LogWarning("a step could not be computed for a comparison: ",
             LogSafe(status.ToString()));
  return false;
}

const MergedWeights* HotMerge::PlanStep(
    const Batch& batch, const std::shared_ptr<const Adapter>& adapter) {
  Known& known = KnownOf(adapter);
  step_.adapter = adapter;
  step_.rehearsal_seconds = 0;
  step_.how =
      policy_.PlanStep(Now(), KeyOf(*adapter), known.bytes, batch.rows());
  // What has no outputs has nothing to compare.
  if (step_.how == MergeStep::kCheck && batch.outputs() == 0) {
    step_.how = MergeStep::kUnmerged;
  }
  switch (step_.how) {
    case MergeStep::kUnmerged:
      break;
    case MergeStep::kMerged:
      step_.weights = known.weights;
      break;
    case MergeStep::kMeasure:
      if (!Rehearse(batch, nullptr)) step_.how = MergeStep::kUnmerged;
      break;
    case MergeStep::kCheck:
      if (!Rehearse(batch, known.weights.get())) {
        step_.how = MergeStep::kUnmerged;
      }
      break;
  }
  return step_.weights.get();
}

void HotMerge::StepEnded(const Batch& batch, double seconds) {
  const bool merged = batch.merged != nullptr;
  counts_.switches += merged != last_merged_ ? 1 : 0;
  counts_.merged_steps += merged ? 1 : 0;
  last_merged_ = merged;
  if (step_.adapter == nullptr) return;
  Step step = std::exchange(step_, {});
  const AdapterKeyView key = KeyOf(*step.adapter);
  // A step that failed was run in parts: the last of them is not what was
  // rehearsed.
  if (seconds > 0) {
    if (step.how == MergeStep::kCheck) Check(key);
    policy_.StepTook(Now(), key, step.how, batch.rows(), seconds,
                     step.rehearsal_seconds);
  }
  // Where they were dropped meanwhile this is the last hold. Else there is
  // nothing to free, and no reason to wake the builder at each step.
  if (step.weights.use_count() == 1) builder_.Discard(std::move(step.weights));
}

void HotMerge::Check(AdapterKeyView key) {
  const auto found = known_.find(key);
  if (found == known_.end()) return;
  Known& known = found->second;
  const absl::StatusOr<LogprobDifference> difference =
      runner_->CompareWithRehearsal();
  std::string problem;
  if (!difference.ok()) {
    problem = difference.status().ToString();
  } else {
    known.check.Add(*difference);
    if (!WithinMergeTolerance(*difference)) {
      problem = absl::StrFormat(
          "merged log-probabilities are up to %.3g from unmerged ones, flips "
          "up to %.3g; %.3g is allowed%s",
          difference->largest, difference->widest_flip, kMergeTolerance,
          difference->finite ? "" : "; some are not finite");
    }
  }
  if (!problem.empty()) {
    ++counts_.refused;
    LogWarning("adapter ", LogSafe(LabelOf(found->first, known.name)), " (",
               key.digest, ") is not merged: ", problem);
  }
  if (!policy_.CheckEnded(Now(), key, problem)) Drop(key);
}

void HotMerge::Drop(AdapterKeyView key) {
  const auto found = known_.find(key);
  if (found == known_.end()) return;
  builder_.Discard(std::exchange(found->second.weights, nullptr));
  CountMerged();
}

void HotMerge::Advance() {
  TakeBuilt();
  EndWishesForGone();
  policy_.Decide(Now(), &decision_);
  for (const AdapterKey& key : decision_.drop) Drop(key);
  if (decision_.build.has_value()) {
    building_ = *decision_.build;
    const auto found = known_.find(building_);
    std::shared_ptr<const Adapter> adapter =
        found == known_.end() ? nullptr : found->second.adapter.lock();
    if (adapter != nullptr) {
      builder_.Build(std::move(adapter));
    } else {
      policy_.BuildEnded(Now(), 0, "the adapter is gone");
    }
  }
  builder_.SetTicks(policy_.memory_used() > 0);
  if (!counts_.merged.empty() && Now() >= next_count_) CountMerged();
}

void HotMerge::TakeBuilt() {
  std::optional<BuiltWeights> built = builder_.Take();
  if (!built.has_value()) return;
  const auto found = known_.find(building_);
  std::string problem;
  if (!built->weights.ok()) {
    problem = built->weights.status().ToString();
    ++counts_.failed_builds;
    LogWarning("merged weights of ", building_.digest,
               " could not be built: ", LogSafe(problem));
  } else if (found == known_.end()) {
    problem = "the adapter is gone";
  } else {
    ++counts_.builds;
  }
  counts_.build_seconds += built->seconds;
  const uint64_t bytes =
      problem.empty() ? std::max<uint64_t>(1, (*built->weights)->bytes()) : 0;
  const bool wanted = policy_.BuildEnded(Now(), built->seconds, problem, bytes);
  if (!built->weights.ok()) return;
  if (problem.empty()) found->second.bytes = bytes;
  if (wanted) {
    found->second.weights = *std::move(built->weights);
    found->second.check = {};
    CountMerged();
  } else {
    builder_.Discard(*std::move(built->weights));
  }
}

// A wish for an adapter that nobody has any more ends, so that it takes no
// memory from other pins; its weights go as those of others that nobody uses.
void HotMerge::EndWishesForGone() {
  if (Now() < next_look_for_gone_) return;
  next_look_for_gone_ = Now() + kSecondsBetweenLooks;
  for (auto& [key, known] : known_) {
    if (!known.wished || !known.adapter.expired()) continue;
    known.wished = false;
    policy_.SetMode(Now(), key, known.bytes, MergeMode::kAuto).IgnoreError();
  }
}

absl::Status HotMerge::SetMode(MergeMode mode,
                               const std::shared_ptr<const Adapter>& adapter) {
  Known& known = KnownOf(adapter);
  absl::Status status =
      policy_.SetMode(Now(), KeyOf(*adapter), known.bytes, mode);
  if (status.ok()) known.wished = mode != MergeMode::kAuto;
  Advance();
  return status;
}

MergeReport HotMerge::Report() const {
  MergeReport report;
  report.enabled = true;
  report.memory_used = policy_.memory_used();
  report.memory_capacity = policy_.memory_capacity();
  const auto name_of = [this](const AdapterKey& key) {
    const auto found = known_.find(key);
    return found == known_.end() ? std::string() : found->second.name;
  };
  const double now = Now();
  const double unix_now = clock_->UnixSeconds();
  for (const MergeRecord& record : policy_.Records(now)) {
    MergeStatus& status = report.adapters.emplace_back();
    status.tenant = record.key.tenant;
    status.name = name_of(record.key);
    status.record = record;
    const auto found = known_.find(record.key);
    if (found != known_.end()) status.check = found->second.check;
  }
  std::sort(report.adapters.begin(), report.adapters.end(),
            [](const MergeStatus& a, const MergeStatus& b) {
              return std::tie(a.tenant, a.name, a.record.key.digest) <
                     std::tie(b.tenant, b.name, b.record.key.digest);
            });
  for (const MergePolicy::Event& event : policy_.history()) {
    report.history.push_back({unix_now - (now - event.when), event.key.tenant,
                              name_of(event.key), event.key.digest, event.state,
                              event.reason});
  }
  return report;
}

// Looks at all records, which is too much for each step.
void HotMerge::CountMerged() {
  next_count_ = Now() + kSecondsBetweenCounts;
  counts_.merged.clear();
  for (const MergeRecord& record : policy_.Records(Now())) {
    const auto found = known_.find(record.key);
    if (found == known_.end()) continue;
    Known& known = found->second;
    // Where a pin makes steps longer nothing is saved, and no counter falls.
    counts_.saved_seconds +=
        std::max(0.0, record.saved_seconds - known.saved_seconds);
    known.saved_seconds = record.saved_seconds;
    if (known.weights == nullptr) continue;
    counts_.merged.push_back({LabelOf(record.key, known.name),
                              record.key.digest, record.gain,
                              record.merged_steps});
  }
}

void HotMerge::UpdateStats(MergeStats* stats) const {
  *stats = counts_;
  stats->memory_used = policy_.memory_used();
  stats->memory_capacity = policy_.memory_capacity();
}

}  // namespace descant
