// Scheduler: who starts, or starts again, in the next step.
#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/core/scheduler.h"

namespace descant {
namespace {

// A sequence passed over this often for lack of an adapter slot holds back
// everyone behind it who wants a slot, so that one comes free for it. Where
// only its own tenant's slots can, it holds back that tenant only.
constexpr int32_t kStarvingSteps = 64;

}  // namespace

void Scheduler::AdmitSequences(MonotonicTime now) {
  if (rows_left_ == 0) return;
  CountCommittedBlocks();
  kept_state_slots_ = 0;
  adapters_held_back_ = held_back_by_caller_;
  held_back_tenants_.clear();
  // Admit and PreemptPaused change preempted_: the cursor is an age.
  uint64_t seen = 0;
  while (true) {
    const auto next =
        std::find_if(preempted_.begin(), preempted_.end(),
                     [seen](const Sequence* s) { return s->admission > seen; });
    if (next == preempted_.end()) break;
    seen = (*next)->admission;
    if (TryAdmit(*next, now) == Admission::kFull) return;
  }
  AdmitWaiting(now);
}

void Scheduler::CountCommittedBlocks() {
  committed_blocks_ = 0;
  for (const Sequence* sequence : running_) {
    if (sequence->paused) continue;
    committed_blocks_ +=
        std::max(0, BlocksFor(sequence->length() + 1) -
                        static_cast<int32_t>(sequence->blocks.size()));
  }
}

void Scheduler::AdmitWaiting(MonotonicTime now) {
  queue_.BeginPass();
  while (Sequence* candidate = queue_.Next()) {
    const Admission admission = TryAdmit(candidate, now);
    if (admission == Admission::kFull) break;
    if (admission == Admission::kSkipped) queue_.Skip(candidate);
    if (admission == Admission::kHeld) queue_.Hold(candidate);
  }
  queue_.EndPass();
}

Scheduler::Admission Scheduler::TryAdmit(Sequence* sequence,
                                         MonotonicTime now) {
  // Preempted with a sample in flight: it is not known what to recompute.
  if (sequence->paused || sequence->steps_in_flight > 0) {
    return Admission::kSkipped;
  }
  if (rows_left_ == 0 || RowsInTime(*sequence, 1) == 0) {
    return Admission::kFull;
  }
  if (sequence->request().adapter != nullptr && !LeaseSlot(sequence)) {
    return Admission::kSkipped;
  }
  // Its tenant, which was not backlogged, is from here on, and may have to
  // stand back.
  const bool ready = !sequence->lease || slots_.loaded(sequence->slot());
  if (sequence->state == SequenceState::kWaiting && ready) {
    if (fairness_.Ready(sequence->tenant)) return Admission::kLifted;
    const Admission place = TakePlace(*sequence);
    if (place != Admission::kAdmitted) return place;
  }
  // Before the prompt is looked up.
  if (!MakeStateSlot()) return Admission::kFull;
  FindPrefix(*sequence);
  const Admission admission = AdmitOnPrefix(sequence, now);
  prefix_.clear();
  prefix_cache_.Trim();
  return admission;
}

// What is computed already of the sequence's tokens: blocks that it holds back
// for itself, or that the prefix cache has. One row is left to compute.
void Scheduler::FindPrefix(const Sequence& sequence) {
  prefix_end_ = {};
  if (UsesPrefixCache(sequence)) {
    prefix_end_ =
        prefix_cache_.Match(PrefixRootOf(sequence), sequence.tokens,
                            SharedBlocks(sequence.length()), &prefix_);
  } else {
    prefix_end_.lost = true;
  }
  const std::vector<Block>& held = sequence.group->prompt_blocks;
  if (held.size() <= prefix_.size()) return;
  prefix_.clear();
  for (const Block& block : held) prefix_.push_back(block.Share());
  prefix_end_.lost = true;
}

Scheduler::Admission Scheduler::AdmitOnPrefix(Sequence* sequence,
                                              MonotonicTime now) {
  if (!MakeRoom(*sequence)) return Admission::kFull;
  if (sequence->lease && !slots_.loaded(sequence->slot())) {
    KeepRoom(*sequence);
    return Admission::kSkipped;
  }
  Admit(sequence, now);
  return Admission::kAdmitted;
}

// The lease of the adapter's slot, unless the sequence has it. Where the
// adapter isn't loaded, its load is wanted from here on.
bool Scheduler::LeaseSlot(Sequence* sequence) {
  if (sequence->lease) return true;
  const std::shared_ptr<const Adapter>& adapter = sequence->request().adapter;
  const bool held_back = HeldBack(*adapter);
  const SlotAccess access = held_back ? SlotAccess::kFull : FindSlot(*sequence);
  if (access == SlotAccess::kRetiring) return false;  // it will be free
  if (access != SlotAccess::kGranted) {
    if (sequence->skipped_steps++ < kStarvingSteps || held_back) return false;
    if (access == SlotAccess::kOwnShare) {
      held_back_tenants_.push_back(adapter->tenant);
    } else {
      adapters_held_back_ = true;
    }
    return false;
  }
  const Request& request = sequence->request();
  sequence->lease = slots_.Acquire(
      adapter, LeaseKind::kSequence,
      request.tenant == adapter->tenant ? &request.tenant_slots : nullptr);
  DESCANT_CHECK(sequence->lease.has_value());
  const int32_t slot = sequence->slot();
  if (!slots_.loaded(slot) && !slots_.loading(slot)) {
    slots_.BeginLoad(slot);
    slots_to_load_.push_back(slot);
  }
  return true;
}

bool Scheduler::HeldBack(const Adapter& adapter) const {
  return adapters_held_back_ ||
         std::find(held_back_tenants_.begin(), held_back_tenants_.end(),
                   adapter.tenant) != held_back_tenants_.end();
}

// Whether the sequence can have a slot; paused ones are preempted for it.
SlotAccess Scheduler::FindSlot(const Sequence& sequence) {
  // Nothing that ran has become idle since there was no memory for it.
  if (sequence.deferred_at == slots_.releases() + 1) {
    return sequence.deferred_by_share ? SlotAccess::kOwnShare
                                      : SlotAccess::kFull;
  }
  while (true) {
    const SlotAccess access = AccessOf(sequence);
    if (access == SlotAccess::kGranted || access == SlotAccess::kRetiring ||
        !PreemptPaused(&sequence)) {
      return access;
    }
  }
}

bool Scheduler::MakeStateSlot() {
  while (static_cast<int32_t>(free_state_slots_.size()) <= kept_state_slots_) {
    if (!PreemptPaused(nullptr)) return false;
  }
  return true;
}

// Blocks for all its tokens beside what running prefills will take, with one to
// spare for each sequence that runs: what starts should not have to be
// preempted at once.
bool Scheduler::MakeRoom(const Sequence& sequence) {
  const int32_t needed =
      BlocksFor(sequence.length() + 1) - static_cast<int32_t>(prefix_.size());
  while (blocks_.available() - committed_blocks_ - active_ < needed) {
    if (ReclaimPrompt()) continue;
    if (!PreemptPaused(nullptr)) return false;
  }
  return true;
}

// What MakeRoom found stays for the sequence in this pass: those behind it
// don't take it while its adapter loads.
void Scheduler::KeepRoom(const Sequence& sequence) {
  ++kept_state_slots_;
  ++active_;
  committed_blocks_ +=
      BlocksFor(sequence.length() + 1) -
      static_cast<int32_t>(sequence.group->prompt_blocks.size());
}

SlotAccess Scheduler::AccessOf(const Sequence& sequence) const {
  const Adapter& adapter = *sequence.request().adapter;
  const SlotAccess access = slots_.Access(adapter);
  if (access != SlotAccess::kGranted || slots_.used() < max_adapters_) {
    return access;
  }
  // At the cap of distinct adapters: only one of those that run.
  const std::optional<int32_t> slot = slots_.Find(KeyOf(adapter));
  return slot && slots_.users(*slot) > 0 ? SlotAccess::kGranted
                                         : SlotAccess::kFull;
}

// Slow readers make room for those who wait: the youngest one gives up its
// place, and is recomputed when its reader caught up. With `wants_slot`, one
// whose slot that sequence could have.
bool Scheduler::PreemptPaused(const Sequence* wants_slot) {
  for (size_t i = running_.size(); i-- > 0;) {
    Sequence* sequence = running_[i];
    if (!sequence->paused || sequence->steps_in_flight > 0) continue;
    if (wants_slot != nullptr) {
      if (!sequence->lease) continue;
      if (slots_.used() < max_adapters_ &&
          !slots_.MayTake(*wants_slot->request().adapter, sequence->slot())) {
        continue;
      }
    }
    running_.erase(running_.begin() + static_cast<ptrdiff_t>(i));
    Preempt(sequence);
    return true;
  }
  return false;
}

void Scheduler::PreemptPausedOn(int32_t slot) {
  for (Sequence* sequence : running_) {
    if (sequence->paused && sequence->steps_in_flight == 0 &&
        sequence->slot() == slot) {
      Preempt(sequence);
    }
  }
  CompactRunning();
}

void Scheduler::Admit(Sequence* sequence, MonotonicTime now) {
  if (sequence->state == SequenceState::kWaiting) {
    if (!std::exchange(sequence->group->prompt_charged, true)) {
      sequence->group->cached_tokens =
          static_cast<int32_t>(prefix_.size()) * kBlockSize;
      fairness_.ChargePrompt(
          sequence->tenant,
          sequence->prompt_length - sequence->group->cached_tokens);
    }
    queue_.Remove(sequence);
    sequence->admission = ++admissions_;
    sequence->tokens.reserve(sequence->max_length);
    sequence->blocks.reserve(BlocksFor(sequence->max_length));
    sequence->first_scheduled = now;
    StartSpeculation(sequence);
  } else {
    preempted_.erase(std::find(preempted_.begin(), preempted_.end(), sequence));
  }
  sequence->state = SequenceState::kRunning;
  sequence->state_slot = free_state_slots_.back();
  free_state_slots_.pop_back();
  const auto place =
      std::upper_bound(running_.begin(), running_.end(), sequence,
                       [](const Sequence* a, const Sequence* b) {
                         return a->admission < b->admission;
                       });
  running_.insert(place, sequence);
  CountActive(*sequence);
  for (Block& block : prefix_) {
    sequence->blocks.push_back(std::move(block));
    sequence->scheduled_length += kBlockSize;
  }
  sequence->cached = prefix_end_;
  const int32_t rows = std::max(1, ChunkRows(*sequence));
  const bool grown =
      GrowBlocks(sequence, sequence->scheduled_length + rows, false);
  DESCANT_CHECK(grown);
  committed_blocks_ += BlocksFor(sequence->length() + 1) -
                       static_cast<int32_t>(sequence->blocks.size());
  Place(sequence, rows);
}

}  // namespace descant
