#include "runtime/core/merge_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace descant {
namespace {

// Rehearsals begin when an adapter had so many seconds for itself.
constexpr double kMeasureFrom = 0.5;
// More than what merging saves of a step, seen so far: who could not have had
// its build back even with that is not measured.
constexpr double kHopedGain = 0.3;
// Pairs after which it is what they leave possible that is hoped for, and no
// less than this: few pairs may hide a gain.
constexpr int32_t kFirstPairs = 3;
constexpr double kLeastHopedGain = 0.05;
// A gain that does not pay is measured again after so many seconds of steps,
// then twice as many.
constexpr double kMeasureAgain = 300;
constexpr double kMeasureAgainMost = 3600;
// Once in so many steps it is computed the other way, to see whether the gain
// is what it was.
constexpr int32_t kStepsBetweenTrials = 256;
// Of a merged step, what is taken for saved at most: one without its adapter
// takes some time.
constexpr double kMostGain = 0.9;
// Of a measured gain, what steps of half as many rows, or of twice as many, are
// taken to have for sure.
constexpr double kSureOfNextSize = 0.75;

}  // namespace

double MergePolicy::Fading::At(double now) const {
  return sum * std::exp2(-std::max(0.0, now - when) / kHalfLife);
}

void MergePolicy::Fading::Add(double now, double part) {
  sum = At(now) + part;
  when = now;
}

int32_t MergePolicy::SizeOf(int32_t rows) {
  const int32_t width =
      std::bit_width(static_cast<uint32_t>(std::max(0, rows)));
  return std::min(width, kSizes - 1);
}

// The size itself, or else the nearest to it, if any was measured.
std::optional<int32_t> MergePolicy::NearestMeasured(const Entry& entry,
                                                    int32_t size) {
  for (int32_t distance = 0; distance < kSizes; ++distance) {
    for (const int32_t at : {size - distance, size + distance}) {
      if (at < 0 || at >= kSizes) continue;
      if (entry.sizes[at].gains.count() >= kFewestPairs) return at;
    }
  }
  return std::nullopt;
}

// What decisions count on: a gain that was found by looking for one is smaller
// than it seems, and so may that of other sizes be. One that is not clear
// counts only if it is a loss.
double MergePolicy::SureGain(const Entry& entry, int32_t size) {
  const std::optional<int32_t> measured = NearestMeasured(entry, size);
  if (!measured.has_value()) return 0;
  const GainSamples& gains = entry.sizes[*measured].gains;
  const double low = gains.low();
  const double median = gains.median();
  if (low <= 0) return std::min(0.0, median);
  const double gain = (low + median) / 2 *
                      std::pow(kSureOfNextSize, std::abs(size - *measured));
  return std::min(gain, kMostGain);
}

// Whether more pairs would hardly change it. Without that, samples that are
// noise would at some time look like a gain, once in forty times.
bool MergePolicy::IsClearGain(const GainSamples& gains) {
  return gains.count() >= kFewestPairs && gains.low() > 0 &&
         (gains.count() == GainSamples::kMost ||
          gains.low() >= gains.median() / 2);
}

// What merged weights would have saved, of late, had they been there.
double MergePolicy::ForgoneOf(const Entry& entry, double now) {
  double seconds = 0;
  for (int32_t size = 0; size < kSizes; ++size) {
    const Fading& unmerged = entry.sizes[size].unmerged;
    if (unmerged.sum == 0) continue;
    const std::optional<int32_t> measured = NearestMeasured(entry, size);
    if (!measured.has_value()) continue;
    const double gain = SureGain(entry, size);
    if (gain > 0 && !IsClearGain(entry.sizes[*measured].gains)) continue;
    seconds += unmerged.At(now) * gain;
  }
  return seconds;
}

// By the time that steps of each size took lately.
void MergePolicy::FillGain(const Entry& entry, double now,
                           MergeRecord* record) {
  double sum = 0;
  double weights = 0;
  for (const Size& size : entry.sizes) {
    if (size.gains.count() < kFewestPairs) continue;
    const double weight = size.unmerged.At(now) + 1e-6 * size.gains.count();
    sum += weight * size.gains.median();
    weights += weight;
    record->samples += size.gains.count();
  }
  if (weights > 0) record->gain = sum / weights;
}

// Of a build, in seconds that steps lose at most: it takes that much of a core
// from them.
double MergePolicy::CostOf(const Entry& entry) const {
  return entry.record.build_seconds > 0
             ? entry.record.build_seconds
             : build_seconds_per_byte_ *
                   static_cast<double>(entry.record.bytes);
}

MergePolicy::Entry* MergePolicy::FindEntry(AdapterKeyView adapter) const {
  const auto found = entries_.find(adapter);
  return found == entries_.end() ? nullptr : found->second.get();
}

// Null: too many others have wishes or weights.
MergePolicy::Entry* MergePolicy::EntryOf(double now, AdapterKeyView adapter,
                                         uint64_t bytes) {
  if (Entry* entry = FindEntry(adapter)) return entry;
  if (entries_.size() >= kMostAdapters && !ForgetOldest()) return nullptr;
  auto entry = std::make_unique<Entry>();
  entry->record.key =
      AdapterKey(std::string(adapter.tenant), std::string(adapter.digest));
  entry->record.bytes = bytes;
  entry->last_step = now;
  return entries_.emplace(entry->record.key, std::move(entry))
      .first->second.get();
}

// Many at once: a flood of adapters with a step each searches seldom.
bool MergePolicy::ForgetOldest() {
  std::vector<Entry*> others;
  for (const auto& [key, entry] : entries_) {
    if (!entry->has_weights && entry->record.mode == MergeMode::kAuto) {
      others.push_back(entry.get());
    }
  }
  if (others.empty()) return false;
  const auto end = others.begin() + (others.size() + 7) / 8;
  std::nth_element(others.begin(), end - 1, others.end(),
                   [](const Entry* a, const Entry* b) {
                     return a->last_step < b->last_step;
                   });
  for (auto it = others.begin(); it != end; ++it) {
    if ((*it)->to_look_at) std::erase(to_look_at_, *it);
    if (challenger_ == *it) challenger_ = nullptr;
    entries_.erase(entries_.find((*it)->record.key));
  }
  return true;
}

// Whether the gain of a size is known, one way or the other.
bool MergePolicy::IsSettled(Entry* entry, int32_t size) {
  Size& at = entry->sizes[size];
  if (at.gains.count() < kFewestPairs) return false;
  if (IsClearGain(at.gains)) return true;
  if (at.gains.high() > 0 && at.gains.count() < GainSamples::kMost) {
    return false;
  }
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

// The best that a size's samples leave possible. Few of them show a gain that
// is large; one that is small is not given up for them.
double MergePolicy::HopedGain(const GainSamples& gains) {
  return gains.count() < kFirstPairs
             ? kHopedGain
             : std::clamp(gains.high(), kLeastHopedGain, kHopedGain);
}

// Whether what can be hoped for would make up for a build, in twice the steps
// that there were, and is worth the time of another pair.
bool MergePolicy::MayPay(double now, const Entry& entry, int32_t size) const {
  const MergeRecord& record = entry.record;
  const double gain = HopedGain(entry.sizes[size].gains);
  return record.measure_seconds <=
             kMeasureShare * gain * gain * record.alone_seconds &&
         2 * entry.recent.At(now) * gain >= record.threshold * CostOf(entry);
}

// The gain is to be right for the sizes that take most of the time. But a pair
// takes the time of a step, and one of a prompt's many rows as long as several
// of decodes; so how many steps there were counts as much.
int32_t MergePolicy::SizeToMeasure(double now, const Entry& entry) {
  int32_t best = 0;
  double most = 0;
  for (int32_t size = 0; size < kSizes; ++size) {
    const Size& at = entry.sizes[size];
    const double worth = at.unmerged.At(now) * at.unmerged_steps.At(now);
    if (worth <= most) continue;
    most = worth;
    best = size;
  }
  return best;
}

bool MergePolicy::WantsMeasurement(double now, Entry* entry,
                                   int32_t size) const {
  if (entry->steps_until_rehearsal > 0) {
    --entry->steps_until_rehearsal;
    return false;
  }
  const MergeRecord& record = entry->record;
  if (debt_ > kFreeDebt || record.mode != MergeMode::kAuto ||
      record.bytes > memory_ || record.alone_seconds < kMeasureFrom) {
    return false;
  }
  return MayPay(now, *entry, size) && size == SizeToMeasure(now, *entry) &&
         !IsSettled(entry, size);
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
  if (entry == nullptr) return MergeStep::kUnmerged;
  entry->last_step = now;
  if (entry->record.mode == MergeMode::kForbidden) return MergeStep::kUnmerged;
  const int32_t size = SizeOf(rows);
  switch (entry->record.state) {
    case MergeState::kUnmerged:
      if (!WantsMeasurement(now, entry, size)) return MergeStep::kUnmerged;
      entry->steps_until_rehearsal = kStepsBetweenRehearsals - 1;
      return MergeStep::kMeasure;
    case MergeState::kChecking:
      if (entry->steps_until_rehearsal-- > 0) return MergeStep::kUnmerged;
      entry->steps_until_rehearsal = kStepsBetweenRehearsals - 1;
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
      size.merged_count >= size.merged.size()) {
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
  if (entry == nullptr || !(seconds >= 0) || !std::isfinite(seconds)) return;
  MergeRecord& record = entry->record;
  Size& size = entry->sizes[SizeOf(rows)];
  record.alone_seconds += seconds;
  entry->recent.Add(now, seconds);
  debt_ = std::max(0.0, debt_ - kLossShare * seconds);
  LookAt(entry);
  if (rehearsal_seconds > 0 && std::isfinite(rehearsal_seconds)) {
    record.measure_seconds += rehearsal_seconds;
    if (record.mode != MergeMode::kPinned) debt_ += rehearsal_seconds;
    size.gains.Add(rehearsal_seconds, seconds);
  }
  if (record.state == MergeState::kMerged) {
    CompareAcrossSteps(entry, how, rows, seconds);
  }
  if (how == MergeStep::kMerged) {
    MergedStepTook(now, entry, SizeOf(rows), seconds);
    return;
  }
  size.unmerged.Add(now, seconds);
  size.unmerged_steps.Add(now, 1);
  if (entry != challenger_) return;
  const double forgone = seconds * SureGain(*entry, SizeOf(rows));
  for (Entry* holder : holders_) {
    holder->credit = std::max(0.0, holder->credit - forgone);
  }
}

void MergePolicy::MergedStepTook(double now, Entry* entry, int32_t size,
                                 double seconds) {
  MergeRecord& record = entry->record;
  const auto saved_with = [&](double gain) {
    return seconds * gain / (1 - gain);
  };
  const std::optional<int32_t> measured = NearestMeasured(*entry, size);
  const double gain =
      measured.has_value()
          ? std::min(entry->sizes[*measured].gains.median(), kMostGain)
          : 0;
  const double saved = saved_with(SureGain(*entry, size));
  ++record.merged_steps;
  record.saved_seconds += saved_with(gain);
  entry->saved += saved;
  entry->credit = std::clamp(entry->credit + saved, 0.0, CostOf(*entry));
  if (gain > 0 || record.mode == MergeMode::kPinned) entry->last_use = now;
  if (record.mode == MergeMode::kAuto) debt_ = std::max(0.0, debt_ - saved);
}

}  // namespace descant
