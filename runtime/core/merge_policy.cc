#include "runtime/core/merge_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

// Of what fades, half does in so many seconds.
constexpr double kHalfLife = 60;
// Rehearsals take no more than this share of the time of an adapter's steps,
// and begin when that is so much.
constexpr double kMeasureShare = 0.03;
constexpr double kMeasureFrom = 0.5;
// Sizes of steps that take less of an adapter's time are not measured.
constexpr double kLeastShareOfSize = 0.2;
// Pairs that a gain rests on: as many as it takes for its sign to be clear.
constexpr int32_t kFewestPairs = 5;
constexpr int32_t kStepsBetweenRehearsals = 4;
// A gain that does not pay is measured again after so many seconds of steps,
// then twice as many.
constexpr double kMeasureAgain = 60;
constexpr double kMeasureAgainMost = 3600;
// Steps that merged weights are compared on before they are used.
constexpr int32_t kChecks = 5;
// Once in so many steps it is computed the other way, to see whether the gain
// is what it was.
constexpr int32_t kStepsBetweenTrials = 512;
constexpr double kLeastThreshold = 0.5;
constexpr double kMostThreshold = 16;
constexpr double kThresholdStep = 0.05;
constexpr double kThresholdFactor = 1.5;
constexpr double kSecondsBetweenLooks = 0.05;

}  // namespace

double MergePolicy::Fading::At(double now) const {
  return sum * std::exp2(-std::max(0.0, now - when) / kHalfLife);
}

void MergePolicy::Fading::Add(double now, double part) {
  sum = At(now) + part;
  when = now;
}

int32_t MergePolicy::SizeOf(int32_t rows) {
  const int32_t width = std::bit_width(static_cast<uint32_t>(rows));
  return std::min(width, kSizes - 1);
}

// Of a size that was not measured: that of the nearest one that was.
double MergePolicy::GainOf(const Entry& entry, int32_t size) {
  for (int32_t distance = 0; distance < kSizes; ++distance) {
    for (const int32_t at : {size - distance, size + distance}) {
      if (at < 0 || at >= kSizes) continue;
      const GainSamples& gains = entry.sizes[at].gains;
      if (gains.count() >= kFewestPairs) return gains.median();
    }
  }
  return 0;
}

// What merged weights would have saved, of late, had they been there. Sizes
// whose gain is not clearly one don't count.
double MergePolicy::ForgoneOf(const Entry& entry, double now) {
  double seconds = 0;
  for (const Size& size : entry.sizes) {
    if (size.gains.count() < kFewestPairs || size.gains.low() <= 0) continue;
    seconds += size.unmerged.At(now) * size.gains.median();
  }
  return seconds;
}

// Of a build, in seconds that steps lose at most: it takes that much of a core
// from them.
double MergePolicy::CostOf(const Entry& entry) const {
  return entry.record.build_seconds > 0
             ? entry.record.build_seconds
             : build_seconds_per_byte_ *
                   static_cast<double>(entry.record.bytes);
}

MergePolicy::Entry* MergePolicy::FindEntry(AdapterKeyView adapter) {
  const auto found = entries_.find(adapter);
  return found == entries_.end() ? nullptr : found->second.get();
}

MergePolicy::Entry* MergePolicy::EntryOf(double now, AdapterKeyView adapter,
                                         uint64_t bytes) {
  if (Entry* entry = FindEntry(adapter)) return entry;
  if (entries_.size() >= kMostAdapters) ForgetOldest();
  auto entry = std::make_unique<Entry>();
  entry->record.key =
      AdapterKey(std::string(adapter.tenant), std::string(adapter.digest));
  entry->record.bytes = bytes;
  entry->last_step = now;
  return entries_.emplace(entry->record.key, std::move(entry))
      .first->second.get();
}

void MergePolicy::ForgetOldest() {
  auto oldest = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    const Entry& entry = *it->second;
    if (entry.has_weights || entry.record.mode != MergeMode::kAuto) continue;
    if (oldest == entries_.end() ||
        entry.last_step < oldest->second->last_step) {
      oldest = it;
    }
  }
  if (oldest == entries_.end()) return;
  std::erase(to_look_at_, oldest->second.get());
  entries_.erase(oldest);
}

// Whether the gain of a size is known, one way or the other.
bool MergePolicy::IsSettled(Entry* entry, int32_t size) {
  Size& at = entry->sizes[size];
  const bool clear = at.gains.count() >= kFewestPairs &&
                     (at.gains.low() > 0 || at.gains.high() < 0);
  if (!clear && at.gains.count() < GainSamples::kMost) return false;
  if (at.gains.low() > 0) return true;
  const double alone = entry->record.alone_seconds;
  if (at.measure_at == 0) {
    at.put_off = std::clamp(2 * at.put_off, kMeasureAgain, kMeasureAgainMost);
    at.measure_at = alone + at.put_off;
  }
  if (alone < at.measure_at) return true;
  at.measure_at = 0;
  at.gains.Clear();
  return false;
}

bool MergePolicy::WantsMeasurement(double now, Entry* entry,
                                   int32_t size) const {
  const MergeRecord& record = entry->record;
  if (record.mode != MergeMode::kAuto || record.bytes > memory_ ||
      record.alone_seconds < kMeasureFrom ||
      record.measure_seconds > kMeasureShare * record.alone_seconds) {
    return false;
  }
  double all = 0;
  for (const Size& other : entry->sizes) all += other.unmerged.At(now);
  return entry->sizes[size].unmerged.At(now) >= kLeastShareOfSize * all &&
         !IsSettled(entry, size) && --entry->steps_until_rehearsal <= 0;
}

// Those whose gain is none run unmerged, but for a trial now and then; and the
// reverse.
MergeStep MergePolicy::PlanMerged(Entry* entry, int32_t size) {
  Size& at = entry->sizes[size];
  bool merged = entry->record.mode == MergeMode::kPinned ||
                at.gains.count() < kFewestPairs || at.gains.median() > 0;
  if (at.steps_until_trial <= 0) at.steps_until_trial = kStepsBetweenTrials;
  if (--at.steps_until_trial == 0) merged = !merged;
  return merged ? MergeStep::kMerged : MergeStep::kUnmerged;
}

MergeStep MergePolicy::PlanStep(double now, AdapterKeyView adapter,
                                uint64_t bytes, int32_t rows) {
  Entry* entry = EntryOf(now, adapter, bytes);
  entry->last_step = now;
  const int32_t size = SizeOf(rows);
  switch (entry->record.state) {
    case MergeState::kUnmerged:
      if (!WantsMeasurement(now, entry, size)) return MergeStep::kUnmerged;
      entry->steps_until_rehearsal = kStepsBetweenRehearsals;
      return MergeStep::kMeasure;
    case MergeState::kChecking:
      if (--entry->steps_until_rehearsal > 0) return MergeStep::kUnmerged;
      entry->steps_until_rehearsal = kStepsBetweenRehearsals;
      return MergeStep::kCheck;
    case MergeState::kMerged:
      return PlanMerged(entry, size);
    case MergeState::kBuilding:
    case MergeState::kRefused:
      break;
  }
  return MergeStep::kUnmerged;
}

// Pairs of steps of the same rows, one after the other.
void MergePolicy::CompareAcrossSteps(Entry* entry, MergeStep how, int32_t rows,
                                     double seconds) {
  Size& size = entry->sizes[SizeOf(rows)];
  if (how == MergeStep::kMerged) {
    if (size.merged_rows != rows) size.merged_count = 0;
    size.merged_rows = rows;
    size.merged[size.merged_count++ % size.merged.size()] = seconds;
    return;
  }
  if (how == MergeStep::kUnmerged && size.merged_rows == rows &&
      size.merged_count >= static_cast<int32_t>(size.merged.size())) {
    std::array<double, 3> merged = size.merged;
    std::sort(merged.begin(), merged.end());
    size.gains.Add(merged[1], seconds);
  }
  size.merged_count = 0;
}

void MergePolicy::StepTook(double now, AdapterKeyView adapter, MergeStep how,
                           int32_t rows, double seconds,
                           double rehearsal_seconds) {
  Entry* entry = FindEntry(adapter);
  if (entry == nullptr || !(seconds >= 0)) return;
  MergeRecord& record = entry->record;
  Size& size = entry->sizes[SizeOf(rows)];
  record.alone_seconds += seconds;
  entry->recent.Add(now, seconds);
  LookAt(entry);
  if (rehearsal_seconds > 0) {
    record.measure_seconds += rehearsal_seconds;
    size.gains.Add(rehearsal_seconds, seconds);
  }
  if (record.state == MergeState::kMerged) {
    CompareAcrossSteps(entry, how, rows, seconds);
  }
  const double gain = GainOf(*entry, SizeOf(rows));
  if (how == MergeStep::kMerged) {
    ++record.merged_steps;
    entry->last_merged = now;
    const double saved = seconds * gain / (1 - std::min(gain, 0.9));
    record.saved_seconds += saved;
    entry->saved += saved;
    entry->credit = std::min(CostOf(*entry), entry->credit + saved);
    return;
  }
  size.unmerged.Add(now, seconds);
  if (!entry->has_weights && gain > 0) ChargeLandlords(*entry, seconds * gain);
}

void MergePolicy::ChargeLandlords(const Entry& entry, double forgone) {
  if (memory_used_ + entry.record.bytes <= memory_) return;
  for (auto& [key, other] : entries_) {
    if (other->has_weights) other->credit -= forgone;
  }
}

void MergePolicy::SetState(double now, Entry* entry, MergeState state,
                           std::string reason) {
  entry->record.state = state;
  entry->record.reason = reason;
  if (history_.size() == kMostEvents) history_.pop_front();
  history_.push_back({now, entry->record.key, state, std::move(reason)});
}

// `drop` may be null: who calls drops them.
void MergePolicy::Drop(double now, Entry* entry, MergeState state,
                       std::string reason, std::vector<AdapterKey>* drop) {
  DESCANT_CHECK(entry->has_weights && entry != building_);
  entry->has_weights = false;
  memory_used_ -= entry->record.bytes;
  if (entry->record.mode == MergeMode::kAuto) {
    double& threshold = entry->record.threshold;
    threshold = entry->saved >= CostOf(*entry)
                    ? std::max(kLeastThreshold, threshold - kThresholdStep)
                    : std::min(kMostThreshold, threshold * kThresholdFactor);
  }
  for (Size& size : entry->sizes) {
    size.unmerged = {};
    size.merged_count = 0;
  }
  SetState(now, entry, state, std::move(reason));
  if (drop != nullptr) drop->push_back(entry->record.key);
}

void MergePolicy::DropIdle(double now, std::vector<AdapterKey>* drop) {
  for (auto& [key, entry] : entries_) {
    if (!entry->has_weights || entry.get() == building_) continue;
    if (entry->record.mode == MergeMode::kForbidden) {
      Drop(now, entry.get(), MergeState::kUnmerged,
           "an operator forbids to merge it", drop);
    } else if (entry->record.mode == MergeMode::kAuto &&
               now - std::max(entry->last_merged, entry->last_step) >
                   kIdleSeconds) {
      Drop(now, entry.get(), MergeState::kUnmerged,
           "it had no step for itself for a minute", drop);
    } else if (entry->record.mode == MergeMode::kAuto &&
               entry->record.state == MergeState::kMerged &&
               now - entry->last_merged > kIdleSeconds) {
      Drop(now, entry.get(), MergeState::kUnmerged,
           "merged steps take no less time", drop);
    }
  }
}

bool MergePolicy::IsWorthBuilding(const Entry& entry, double now) const {
  const MergeRecord& record = entry.record;
  if (entry.has_weights || record.bytes > memory_) return false;
  if (record.mode == MergeMode::kPinned) {
    return record.state == MergeState::kUnmerged;
  }
  return record.mode == MergeMode::kAuto &&
         record.state == MergeState::kUnmerged &&
         ForgoneOf(entry, now) > record.threshold * CostOf(entry);
}

// Those that have no credit left go, the poorest first; for a pin all may.
bool MergePolicy::MakeRoom(double now, Entry* entry,
                           std::vector<AdapterKey>* drop) {
  const bool pin = entry->record.mode == MergeMode::kPinned;
  std::vector<Entry*> others;
  uint64_t room = memory_ - memory_used_;
  for (auto& [key, other] : entries_) {
    if (other->has_weights && other->record.mode != MergeMode::kPinned &&
        (pin || other->credit <= 0)) {
      others.push_back(other.get());
      room += other->record.bytes;
    }
  }
  if (room < entry->record.bytes) return false;
  std::sort(others.begin(), others.end(), [](const Entry* a, const Entry* b) {
    if (a->credit != b->credit) return a->credit < b->credit;
    return a->record.key.digest < b->record.key.digest;
  });
  for (Entry* other : others) {
    if (memory_used_ + entry->record.bytes <= memory_) break;
    Drop(now, other, MergeState::kUnmerged,
         "another adapter saves more with its memory", drop);
  }
  return true;
}

void MergePolicy::Begin(double now, Entry* entry, Decision* decision) {
  building_ = entry;
  entry->has_weights = true;
  entry->saved = 0;
  memory_used_ += entry->record.bytes;
  decision->build = entry->record.key;
  if (entry->record.mode == MergeMode::kPinned) {
    SetState(now, entry, MergeState::kBuilding, "an operator pinned it");
    return;
  }
  SetState(now, entry, MergeState::kBuilding,
           absl::StrFormat("would have saved %.3g s lately, costs %.3g s",
                           ForgoneOf(*entry, now), CostOf(*entry)));
}

void MergePolicy::Decide(double now, Decision* decision) {
  decision->drop.clear();
  decision->build.reset();
  if (now < next_look_) return;
  next_look_ = now + kSecondsBetweenLooks;
  DropIdle(now, &decision->drop);
  if (building_ != nullptr) return;
  Entry* best = nullptr;
  const auto rank = [&](const Entry& entry) {
    return std::pair(entry.record.mode == MergeMode::kPinned,
                     ForgoneOf(entry, now) - CostOf(entry));
  };
  for (Entry* entry : to_look_at_) {
    entry->to_look_at = false;
    if (!IsWorthBuilding(*entry, now)) continue;
    if (best == nullptr || rank(*best) < rank(*entry)) best = entry;
  }
  to_look_at_.clear();
  // Other pins have their turn when this one is built.
  for (auto& [key, entry] : entries_) {
    if (entry->record.mode == MergeMode::kPinned) LookAt(entry.get());
  }
  if (best != nullptr && MakeRoom(now, best, &decision->drop)) {
    Begin(now, best, decision);
  }
}

void MergePolicy::LookAt(Entry* entry) {
  if (!std::exchange(entry->to_look_at, true)) to_look_at_.push_back(entry);
}

bool MergePolicy::BuildEnded(double now, double seconds,
                             absl::string_view problem) {
  DESCANT_CHECK(building_ != nullptr);
  Entry* entry = std::exchange(building_, nullptr);
  MergeRecord& record = entry->record;
  if (!problem.empty()) {
    Drop(now, entry, MergeState::kRefused, std::string(problem), nullptr);
    return false;
  }
  ++record.builds;
  record.build_seconds = seconds;
  build_seconds_per_byte_ =
      seconds / static_cast<double>(std::max<uint64_t>(1, record.bytes));
  if (record.mode == MergeMode::kForbidden) {
    Drop(now, entry, MergeState::kUnmerged, "an operator forbids to merge it",
         nullptr);
    return false;
  }
  entry->last_step = now;
  entry->credit = CostOf(*entry);
  if (entry->passed_checks) {
    StartUse(now, entry);
    return true;
  }
  entry->checks_left = kChecks;
  SetState(now, entry, MergeState::kChecking, "compared on its own requests");
  return true;
}

bool MergePolicy::CheckEnded(double now, AdapterKeyView adapter,
                             absl::string_view problem) {
  Entry* entry = FindEntry(adapter);
  if (entry == nullptr || entry->record.state != MergeState::kChecking) {
    return false;
  }
  if (!problem.empty()) {
    Drop(now, entry, MergeState::kRefused, std::string(problem), nullptr);
    return false;
  }
  if (--entry->checks_left > 0) return true;
  entry->passed_checks = true;
  StartUse(now, entry);
  return true;
}

void MergePolicy::StartUse(double now, Entry* entry) {
  entry->last_merged = now;
  for (Size& size : entry->sizes) size.steps_until_trial = 0;
  SetState(now, entry, MergeState::kMerged,
           "gives what it gives unmerged, within the tolerance");
}

absl::Status MergePolicy::SetMode(double now, AdapterKeyView adapter,
                                  uint64_t bytes, MergeMode mode) {
  if (mode == MergeMode::kPinned) {
    uint64_t pinned = bytes;
    for (const auto& [key, entry] : entries_) {
      if (entry->record.mode == MergeMode::kPinned && !SameKey(key, adapter)) {
        pinned += entry->record.bytes;
      }
    }
    if (pinned > memory_) {
      return ReasonedError(
          absl::StatusCode::kResourceExhausted, "MERGE_MEMORY_FULL",
          absl::StrFormat("pinned merges would take %d bytes of %d", pinned,
                          memory_));
    }
  }
  Entry* entry = EntryOf(now, adapter, bytes);
  entry->record.mode = mode;
  next_look_ = now;
  LookAt(entry);
  if (entry->record.state == MergeState::kRefused) {
    SetState(now, entry, MergeState::kUnmerged, "an operator wants a new try");
  }
  return absl::OkStatus();
}

std::string MergePolicy::WhyUnmerged(const Entry& entry, double now,
                                     double cost) {
  if (entry.record.mode == MergeMode::kForbidden) {
    return "an operator forbids to merge it";
  }
  if (entry.record.mode == MergeMode::kPinned) return "is to be built";
  bool measured = false;
  for (const Size& size : entry.sizes) {
    measured = measured || size.gains.count() >= kFewestPairs;
  }
  if (!measured) return "had too few steps for itself to measure";
  const double forgone = ForgoneOf(entry, now);
  if (forgone == 0) return "merging it saves nothing that is measurable";
  return absl::StrFormat("would have saved %.3g s lately; a build costs %.3g s",
                         forgone, cost);
}

std::vector<MergeRecord> MergePolicy::Records(double now) const {
  std::vector<MergeRecord> records;
  for (const auto& [key, entry] : entries_) {
    MergeRecord& record = records.emplace_back(entry->record);
    record.recent_seconds = entry->recent.At(now);
    if (record.bytes > memory_) {
      record.reason = "its weights take more than the memory for merges";
    } else if (record.state == MergeState::kUnmerged) {
      record.reason = WhyUnmerged(*entry, now, CostOf(*entry));
    }
    const Size* most = nullptr;  // the size that it has most
    for (const Size& size : entry->sizes) {
      if (size.gains.count() < kFewestPairs) continue;
      if (most == nullptr || size.gains.count() > most->gains.count() ||
          (size.gains.count() == most->gains.count() &&
           size.unmerged.At(now) > most->unmerged.At(now))) {
        most = &size;
      }
    }
    if (most == nullptr) continue;
    record.gain = most->gains.median();
    record.samples = most->gains.count();
  }
  std::sort(records.begin(), records.end(),
            [](const MergeRecord& a, const MergeRecord& b) {
              return std::pair(a.key.tenant, a.key.digest) <
                     std::pair(b.key.tenant, b.key.digest);
            });
  return records;
}

}  // namespace descant
