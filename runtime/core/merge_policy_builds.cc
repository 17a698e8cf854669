// Of MergePolicy: what is built, kept and dropped.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"
#include "runtime/core/merge_policy.h"

namespace descant {
namespace {

// Steps that merged weights are compared on before they are used.
constexpr int32_t kChecks = 5;
constexpr double kLeastThreshold = 0.5;
constexpr double kMostThreshold = 16;
constexpr double kThresholdStep = 0.05;
constexpr double kThresholdFactor = 1.5;
constexpr double kSecondsBetweenLooks = 0.05;

constexpr absl::string_view kForbids = "an operator forbids to merge it";

}  // namespace

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
  std::erase(holders_, entry);
  memory_used_ -= entry->record.bytes;
  for (Size& size : entry->sizes) {
    size.unmerged = {};
    size.unmerged_steps = {};
    size.merged_count = 0;
  }
  SetState(now, entry, state, std::move(reason));
  if (drop != nullptr) drop->push_back(entry->record.key);
}

void MergePolicy::JudgeBuild(Entry* entry) const {
  double& threshold = entry->record.threshold;
  threshold = entry->saved >= CostOf(*entry)
                  ? std::max(kLeastThreshold, threshold - kThresholdStep)
                  : std::min(kMostThreshold, threshold * kThresholdFactor);
}

void MergePolicy::DropUnused(double now, std::vector<AdapterKey>* drop) {
  for (Entry* entry : std::vector<Entry*>(holders_)) {
    if (entry == building_ || entry->record.mode == MergeMode::kPinned) {
      continue;
    }
    if (entry->record.mode == MergeMode::kForbidden) {
      Drop(now, entry, MergeState::kUnmerged, std::string(kForbids), drop);
    } else if (now - std::max(entry->last_use, entry->last_step) >
               kIdleSeconds) {
      JudgeBuild(entry);
      Drop(
          now, entry, MergeState::kUnmerged,
          absl::StrFormat("it had no step for itself for %.0f s", kIdleSeconds),
          drop);
    } else if (entry->record.state == MergeState::kMerged &&
               now - entry->last_use > kIdleSeconds) {
      JudgeBuild(entry);
      Drop(now, entry, MergeState::kUnmerged, "merged steps take no less time",
           drop);
    }
  }
}

// Apart from whether it pays.
bool MergePolicy::MayHaveWeights(const Entry& entry) const {
  return !entry.has_weights && entry.record.bytes <= memory_ &&
         entry.record.mode != MergeMode::kForbidden &&
         entry.record.state == MergeState::kUnmerged;
}

bool MergePolicy::IsWorthBuilding(const Entry& entry, double now) const {
  if (!MayHaveWeights(entry)) return false;
  return entry.record.mode == MergeMode::kPinned ||
         (debt_ <= kFreeDebt &&
          ForgoneOf(entry, now) > entry.record.threshold * CostOf(entry));
}

// One whose steps all others' weights pay for: were it several at once, they
// would go although each saves more than any one of those that follow.
void MergePolicy::FindChallenger(double now) {
  uint64_t pinned = 0;
  for (const Entry* holder : holders_) {
    if (holder->record.mode == MergeMode::kPinned) {
      pinned += holder->record.bytes;
    }
  }
  const auto challenges = [&](const Entry& entry) {
    return MayHaveWeights(entry) && entry.record.mode == MergeMode::kAuto &&
           entry.record.bytes > memory_ - memory_used_ &&
           entry.record.bytes <= memory_ - pinned;
  };
  if (challenger_ != nullptr && !challenges(*challenger_)) {
    challenger_ = nullptr;
  }
  double most = challenger_ == nullptr ? 0 : ForgoneOf(*challenger_, now);
  for (Entry* entry : to_look_at_) {
    if (!challenges(*entry)) continue;
    const double forgone = ForgoneOf(*entry, now);
    if (forgone <= most) continue;
    most = forgone;
    challenger_ = entry;
  }
}

// Those that have no credit left go; for a pin all may, the poorest first.
bool MergePolicy::MakeRoom(double now, const Entry& entry,
                           std::vector<AdapterKey>* drop) {
  const bool pin = entry.record.mode == MergeMode::kPinned;
  std::vector<Entry*> others;
  uint64_t room = memory_ - memory_used_;
  for (Entry* other : holders_) {
    if (other->record.mode != MergeMode::kPinned &&
        (pin || other->credit <= 0)) {
      others.push_back(other);
      room += other->record.bytes;
    }
  }
  if (room < entry.record.bytes) return false;
  std::sort(others.begin(), others.end(), [](const Entry* a, const Entry* b) {
    if (a->credit != b->credit) return a->credit < b->credit;
    return std::pair<absl::string_view, absl::string_view>(
               a->record.key.tenant, a->record.key.digest) <
           std::pair<absl::string_view, absl::string_view>(
               b->record.key.tenant, b->record.key.digest);
  });
  for (Entry* other : others) {
    if (entry.record.bytes <= memory_ - memory_used_) break;
    if (!pin) JudgeBuild(other);
    Drop(now, other, MergeState::kUnmerged,
         pin ? "an operator pinned another one"
             : "another adapter saves more with its memory",
         drop);
  }
  return true;
}

void MergePolicy::Begin(double now, Entry* entry, Decision* decision) {
  const std::string reason =
      entry->record.mode == MergeMode::kPinned
          ? "an operator pinned it"
          : absl::StrFormat("would have saved %.3g s lately, costs %.3g s",
                            ForgoneOf(*entry, now), CostOf(*entry));
  building_ = entry;
  if (challenger_ == entry) challenger_ = nullptr;
  entry->has_weights = true;
  holders_.push_back(entry);
  entry->saved = 0;
  memory_used_ += entry->record.bytes;
  decision->build = entry->record.key;
  SetState(now, entry, MergeState::kBuilding, reason);
}

void MergePolicy::Decide(double now, Decision* decision) {
  decision->drop.clear();
  decision->build.reset();
  if (now < next_look_) return;
  next_look_ = now + kSecondsBetweenLooks;
  DropUnused(now, &decision->drop);
  if (building_ != nullptr) return;
  FindChallenger(now);
  struct Candidate {
    Entry* entry;
    bool pinned;
    double pays;
  };
  std::vector<Candidate> candidates;
  for (Entry* entry : to_look_at_) {
    entry->to_look_at = false;
    if (!IsWorthBuilding(*entry, now)) continue;
    candidates.push_back({entry, entry->record.mode == MergeMode::kPinned,
                          ForgoneOf(*entry, now) - CostOf(*entry)});
  }
  to_look_at_.clear();
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) {
                     return std::pair(a.pinned, a.pays) >
                            std::pair(b.pinned, b.pays);
                   });
  for (const Candidate& candidate : candidates) {
    // Pins wait for their turn, whether or not they have steps.
    if (candidate.pinned) LookAt(candidate.entry);
    if (building_ == nullptr &&
        MakeRoom(now, *candidate.entry, &decision->drop)) {
      Begin(now, candidate.entry, decision);
    }
  }
}

void MergePolicy::LookAt(Entry* entry) {
  if (!std::exchange(entry->to_look_at, true)) to_look_at_.push_back(entry);
}

// True: its weights are of no use.
bool MergePolicy::EndBuildUnused(double now, Entry* entry,
                                 absl::string_view problem) {
  if (!problem.empty()) {
    Drop(now, entry, MergeState::kRefused, std::string(problem), nullptr);
    return true;
  }
  if (entry->record.mode == MergeMode::kForbidden) {
    Drop(now, entry, MergeState::kUnmerged, std::string(kForbids), nullptr);
    return true;
  }
  return false;
}

bool MergePolicy::BuildEnded(double now, double seconds,
                             absl::string_view problem, uint64_t bytes) {
  DESCANT_CHECK(building_ != nullptr);
  Entry* entry = std::exchange(building_, nullptr);
  MergeRecord& record = entry->record;
  if (!(seconds >= 0) || !std::isfinite(seconds)) seconds = 0;
  // A pin is built whatever it saves, and keeps nobody else from being built.
  if (record.mode != MergeMode::kPinned) debt_ += seconds;
  if (problem.empty()) {
    ++record.builds;
    record.build_seconds = seconds;
    if (bytes > 0) {
      memory_used_ = memory_used_ - record.bytes + bytes;
      record.bytes = bytes;
    }
  }
  // A build that failed may have ended early, one of no time measured nothing.
  if (problem.empty() && seconds > 0 && record.bytes > 0) {
    build_seconds_per_byte_ = seconds / static_cast<double>(record.bytes);
  }
  next_look_ = now;
  if (EndBuildUnused(now, entry, problem)) return false;
  entry->last_step = now;
  entry->credit = CostOf(*entry);
  if (entry->passed_checks) {
    StartUse(now, entry);
    return true;
  }
  entry->checks_left = kChecks;
  entry->steps_until_rehearsal = 0;
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
  entry->last_use = now;
  for (Size& size : entry->sizes) size.steps_until_trial = 0;
  SetState(now, entry, MergeState::kMerged,
           "gives what it gives unmerged, within the tolerance");
}

absl::Status MergePolicy::RoomForWish(AdapterKeyView adapter, uint64_t bytes,
                                      MergeMode mode) const {
  uint64_t pinned = bytes;
  size_t wishes = 1;
  for (const auto& [key, entry] : entries_) {
    if (SameKey(key, adapter)) continue;
    if (entry->record.mode != MergeMode::kAuto) ++wishes;
    if (entry->record.mode == MergeMode::kPinned) pinned += entry->record.bytes;
  }
  if (wishes > kMostWishes) {
    return ReasonedError(
        absl::StatusCode::kResourceExhausted, "MERGE_MEMORY_FULL",
        absl::StrFormat("%d adapters have a wish about their merge",
                        kMostWishes));
  }
  // A sum that wraps around has passed the memory, too.
  if (mode == MergeMode::kPinned && (pinned > memory_ || pinned < bytes)) {
    return ReasonedError(
        absl::StatusCode::kResourceExhausted, "MERGE_MEMORY_FULL",
        absl::StrFormat("pinned merges would take %d bytes of %d", pinned,
                        memory_));
  }
  return absl::OkStatus();
}

absl::Status MergePolicy::SetMode(double now, AdapterKeyView adapter,
                                  uint64_t bytes, MergeMode mode) {
  Entry* entry = FindEntry(adapter);
  if (mode != MergeMode::kAuto) {
    const uint64_t known = entry == nullptr ? bytes : entry->record.bytes;
    const absl::Status status = RoomForWish(adapter, known, mode);
    if (!status.ok()) return status;
    if (entry == nullptr) entry = EntryOf(now, adapter, bytes);
  }
  if (entry == nullptr) return absl::OkStatus();
  entry->record.mode = mode;
  next_look_ = now;
  LookAt(entry);
  if (entry->record.state == MergeState::kRefused &&
      mode != MergeMode::kForbidden) {
    SetState(now, entry, MergeState::kUnmerged, "an operator wants a new try");
  }
  return absl::OkStatus();
}

std::string MergePolicy::WhyUnmerged(const Entry& entry, double now) const {
  if (entry.record.mode == MergeMode::kForbidden) return std::string(kForbids);
  if (entry.record.mode == MergeMode::kPinned) return "is to be built";
  if (!NearestMeasured(entry, 0).has_value()) {
    return "had too few steps for itself to measure";
  }
  const double forgone = ForgoneOf(entry, now);
  if (forgone <= 0) return "merging it saves nothing that is measurable";
  return absl::StrFormat(
      "would have saved %.3g s lately; a build costs %.3g s%s", forgone,
      CostOf(entry),
      debt_ > kFreeDebt ? "; builds before it have not paid off yet" : "");
}

std::vector<MergeRecord> MergePolicy::Records(double now) const {
  std::vector<MergeRecord> records;
  for (const auto& [key, entry] : entries_) {
    MergeRecord& record = records.emplace_back(entry->record);
    record.recent_seconds = entry->recent.At(now);
    if (record.bytes > memory_) {
      record.reason = "its weights take more than the memory for merges";
    } else if (record.state == MergeState::kUnmerged) {
      record.reason = WhyUnmerged(*entry, now);
    }
    FillGain(*entry, now, &record);
  }
  std::sort(records.begin(), records.end(),
            [](const MergeRecord& a, const MergeRecord& b) {
              return std::pair(a.key.tenant, a.key.digest) <
                     std::pair(b.key.tenant, b.key.digest);
            });
  return records;
}

}  // namespace descant
