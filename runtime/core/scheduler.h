// Decides what each step computes. A pure value machine: requests and step
// results in, batches and events out; no thread, tensor, file or clock.
//
// A step: decodes first (one row each), then the prefills that continue, then
// new sequences, within the budgets of rows, time, sequences, KV blocks and
// adapter slots; then the prefills that the new ones overtook; drafts take what
// is left. See runtime/README.md for the rules.
#ifndef DESCANT_RUNTIME_CORE_SCHEDULER_H_
#define DESCANT_RUNTIME_CORE_SCHEDULER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "adapters/slot_table.h"
#include "runtime/core/batch.h"
#include "runtime/core/batch_builder.h"
#include "runtime/core/block_allocator.h"
#include "runtime/core/draft_budget.h"
#include "runtime/core/fairness.h"
#include "runtime/core/prefix_cache.h"
#include "runtime/core/request.h"
#include "runtime/core/scheduler_options.h"
#include "runtime/core/sequence.h"
#include "runtime/core/step_time_model.h"
#include "runtime/core/waiting_queue.h"

namespace descant {

// Since the scheduler was made.
struct SpeculationCounts {
  uint64_t drafts = 0;        // of any length, one a sequence and step
  uint64_t draft_tokens = 0;  // rows they took
  // That were right, and became tokens of an answer.
  uint64_t accepted_draft_tokens = 0;
};

// Thread-compatible, except Validate. A caller's step:
//   Schedule -> begin slots_to_load() -> [launch, collect] -> Update | FailStep
// with Events() read and cleared after each call. One step may be in flight:
// Schedule for step n + 1 may come before Update for step n, but not before
// Update for step n - 1. The batch of step n stays valid until its Update.
class Scheduler {
 public:
  explicit Scheduler(SchedulerOptions options);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // INVALID_ARGUMENT when the request can never run: an empty prompt, or one
  // that leaves no room for an answer, or no answers. Thread-safe.
  absl::Status Validate(const Request& request) const;

  // REQUIRES: Validate(request) is OK; the id is new.
  void Add(Request request);

  // Finishes the request's sequences with `reason`. What they hold is free on
  // return, or, if a step in flight uses it, when that step is updated. Unknown
  // ids are ignored.
  void Abort(RequestId id, FinishReason reason);
  // The same for one of its answers; the others go on.
  void AbortChoice(RequestId id, int32_t choice, FinishReason reason);

  // The sequences of a paused request get no rows. They keep their blocks
  // until others need them; then they are recomputed when they go on.
  void SetPaused(RequestId id, bool paused);

  // Sequences past their deadline finish first; none of them gets a row. An
  // empty batch is not a step: nothing to launch, no Update.
  const Batch& Schedule(MonotonicTime now);
  // Puts the tokens into the batch that were in flight when it was scheduled
  // and are known by now: those of sequences that go on.
  void CompleteBatch();
  // The batch of the last Schedule, all of whose rows use one adapter, is
  // computed with weights that hold it: see Batch::merged.
  void UseMerged(const MergedWeights* merged);
  // Slots that the last Schedule gave to adapters which are not loaded. The
  // caller loads slots().adapter(slot) into each, in time, then calls one of
  // the next three. Until then no batch uses it; who waits for it is passed
  // over.
  absl::Span<const int32_t> slots_to_load() const { return slots_to_load_; }
  // `bytes`: of the adapter on the device.
  void SlotLoaded(int32_t slot, uint64_t bytes = 0);
  void SlotLoadFailed(int32_t slot);  // who waits for it finishes with kError
  // No room beside those that run: its waiters try again when one is idle.
  // `own_share`: only slots of the adapter's own tenant could make room, so
  // its waiters never hold back other tenants'.
  void DeferSlot(int32_t slot, bool own_share = false);

  // Sequences whose adapter has no lease get none: somebody else waits for a
  // slot, and has waited long enough.
  void HoldAdaptersBack(bool held) { held_back_by_caller_ = held; }
  // Paused sequences give the slot up, and are recomputed when they go on.
  void PreemptPausedOn(int32_t slot);
  const Batch& batch() const { return *scheduled_; }

  // The oldest step in flight is done. REQUIRES: output.step is that step and
  // output.sequences has its batch's order.
  void Update(const StepOutput& output);
  // The oldest step in flight failed as a whole: its sequences finish with
  // kError.
  void FailStep();

  // The step of the last Update took `seconds`, from Schedule on: what
  // SchedulerOptions::target_step_seconds is held against, and what decides
  // which drafts pay: so never a token. The time that was
  // expected; 0 as long as there were too few steps to expect one.
  double StepTook(double seconds);

  const std::vector<SequenceEvent>& events() const { return events_; }
  void ClearEvents() { events_.clear(); }

  // Blocks that a numeric fault poisoned, kept back until the caller had them
  // cleared and says so.
  absl::Span<const int32_t> tainted_blocks() const { return blocks_.tainted(); }
  void TaintedBlocksCleared() { blocks_.ReturnTainted(); }

  // Sequences. Waiting ones have never run, and may not exist yet; preempted
  // ones have run.
  int32_t running() const { return static_cast<int32_t>(running_.size()); }
  int32_t waiting() const { return queue_.size() + to_come_; }
  int64_t waiting_tokens() const { return queue_.tokens(); }
  int32_t preempted() const { return static_cast<int32_t>(preempted_.size()); }
  bool idle() const { return groups_.empty(); }
  uint64_t preemptions() const { return preemptions_; }
  const SpeculationCounts& speculation() const { return speculation_; }
  const BlockAllocator& blocks() const { return blocks_; }
  SlotTable& slots() { return slots_; }
  const SlotTable& slots() const { return slots_; }
  const TokenFairness& fairness() const { return fairness_; }
  const PrefixCache& prefix_cache() const { return prefix_cache_; }
  // Of a sequence in a step, at most.
  int32_t max_draft_tokens() const { return options_.max_draft_tokens; }
  // Tokens a sequence may reach, prompt included.
  int32_t max_length() const { return max_length_; }

  template <typename Visit>  // void(const SequenceGroup&)
  void ForEachGroup(Visit visit) const {
    for (const auto& [id, group] : groups_) visit(*group);
  }
  template <typename Visit>  // void(const Sequence&)
  void ForEachSequence(Visit visit) const {
    for (const auto& [id, group] : groups_) {
      for (const auto& sequence : group->sequences) visit(*sequence);
    }
  }

  // Aborts when an invariant does not hold. O(everything).
  void CheckInvariants() const;

 private:
  struct Step {
    Batch batch;
    std::vector<ScheduledRows> parts;
    StepWork work;
  };
  // kLifted: its tenant's counter rose; somebody else may be next. kHeld: its
  // tenant runs its share; others may be admitted. kFull: nobody may.
  enum class Admission { kAdmitted, kSkipped, kLifted, kHeld, kFull };

  // scheduler_step.cc
  void ExpireDeadlines(MonotonicTime now);
  void ScheduleDecodes();
  void SchedulePrefills(const Sequence* waiting);
  void FindPrefills();
  bool Overtakes(const Sequence& waiting, const Sequence& prefill) const;
  void FreeStuckPrefill();
  void ContinuePrefill(Sequence* sequence);
  int32_t ChunkRows(const Sequence& sequence) const;
  bool GrowBlocks(Sequence* sequence, int32_t length, bool preempt);
  bool ReclaimPrompt();
  Sequence* PickVictim(const Sequence& needy);
  void Preempt(Sequence* sequence);
  void CompactRunning();
  void Place(Sequence* sequence, int32_t rows);

  // scheduler_admission.cc
  void AdmitSequences(MonotonicTime now);
  void AdmitWaiting(MonotonicTime now);
  void CountCommittedBlocks();
  Admission TryAdmit(Sequence* sequence, MonotonicTime now);
  void Admit(Sequence* sequence, MonotonicTime now);
  Admission AdmitOnPrefix(Sequence* sequence, MonotonicTime now);
  void FindPrefix(const Sequence& sequence);
  bool MakeStateSlot();
  bool MakeRoom(const Sequence& sequence);
  void KeepRoom(const Sequence& sequence);
  bool LeaseSlot(Sequence* sequence);
  bool HeldBack(const Adapter& adapter) const;
  SlotAccess FindSlot(const Sequence& sequence);
  SlotAccess AccessOf(const Sequence& sequence) const;
  bool PreemptPaused(const Sequence* wants_slot);

  // scheduler_places.cc
  void CountRunning();
  void CountActive(const Sequence& sequence);
  int32_t ActiveOf(TokenFairness::Tenant tenant) const;
  bool RunsLessThanShare(TokenFairness::Tenant tenant) const;
  bool IsTight() const;
  Admission TakePlace(const Sequence& sequence);

  // scheduler_time.cc
  StepWork WorkWith(const Sequence& sequence) const;
  void CountWork(const ScheduledRows& part);
  int32_t RowsInTime(const Sequence& sequence, int32_t most) const;

  // scheduler_drafts.cc
  void StartSpeculation(Sequence* sequence);
  void ScheduleDrafts();
  int32_t GuessNext(const ScheduledRows& part, double least_chance);
  void FitDrafts(ScheduledRows* part);
  void JudgeGuesses(const ScheduledRows& part,
                    absl::Span<const SampledToken> sampled, int32_t taken);
  void KeepComputed(Sequence* sequence, int32_t computed);
  void StopDrafts(const ScheduledRows& part);

  // scheduler_group.cc
  Sequence* AddSequence(SequenceGroup* group, int32_t choice,
                        std::vector<int32_t> prompt);
  void StartOthers(const Sequence& first);
  void HoldPrompt(const Sequence& sequence);
  void DropPrompt(SequenceGroup* group);
  void FinishGroup(SequenceGroup* group, FinishReason reason);
  void Finish(Sequence* sequence, FinishReason reason, SequenceEvent event);
  void Release(Sequence* sequence);

  // scheduler.cc
  bool UsesPrefixCache(const Sequence& sequence) const;
  void CacheBlocks(Sequence* sequence, int32_t computed);
  void GiveUpMemory(Sequence* sequence);
  std::vector<Sequence*> WaitersFor(int32_t slot) const;
  void EnterPreempted(Sequence* sequence);
  FinishReason Append(Sequence* sequence, int32_t token);
  FinishReason TakeTokens(const ScheduledRows& part,
                          absl::Span<const SampledToken> sampled,
                          int32_t* taken);
  void TakeResult(const ScheduledRows& part, const StepOutput& output,
                  const StepOutput::PerSequence& result);
  void Settle(const ScheduledRows& part);

  const SchedulerOptions options_;
  const int32_t max_length_, max_running_, max_adapters_;

  // Before groups_: sequences hold blocks and leases of these.
  BlockAllocator blocks_;
  PrefixCache prefix_cache_{&blocks_};
  SlotTable slots_;
  TokenFairness fairness_;
  WaitingQueue queue_{&fairness_};
  absl::flat_hash_map<RequestId, std::unique_ptr<SequenceGroup>> groups_;
  std::vector<SequenceGroup*> holding_;  // those with prompt_blocks
  std::vector<Sequence*> running_;       // oldest admission first
  std::vector<Sequence*> preempted_;     // oldest admission first
  std::vector<int32_t> free_state_slots_;

  StepTimeModel step_time_;
  StepWork updated_work_;             // of the last Update
  std::vector<uint64_t> slot_bytes_;  // by slot, of the adapter loaded last
  std::vector<uint64_t> slot_pass_;   // by slot: pass_ that counted its bytes

  std::array<Step, 2> steps_;
  int32_t newest_ = 0;  // index of the last non-empty step
  const Batch* scheduled_ = &steps_[0].batch;  // what Schedule returned
  int32_t in_flight_ = 0;
  std::vector<SequenceEvent> events_;
  std::vector<int32_t> slots_to_load_;
  uint64_t step_ = 0;        // of the last non-empty batch
  uint64_t pass_ = 0;        // calls of Schedule
  int32_t to_come_ = 0;      // of all groups
  uint64_t arrivals_ = 0;    // Sequence::order
  uint64_t admissions_ = 0;  // Sequence::admission
  uint64_t preemptions_ = 0;
  DraftBudget draft_budget_;
  SpeculationCounts speculation_;
  int32_t observed_rows_ = 0;  // of the step last updated; 0: not to be used
  MonotonicTime next_deadline_ = kNoDeadline;  // none lies before it
  std::vector<SequenceGroup*> expired_;        // scratch
  // Within one Schedule().
  int32_t rows_left_ = 0;
  int32_t spare_outputs_ = 0;     // beyond one for each that may run
  bool limits_prefills_ = false;  // there are decodes, and a target for them
  int32_t floor_left_ = 0;        // rows of prefills that the step has anyway
  int32_t committed_blocks_ = 0;  // that prefills will still take
  std::vector<Sequence*> prefills_;  // that continue, in their order
  size_t continued_ = 0;             // of them, have had their turn
  // Running sequences that are not paused: how many, of each tenant, and the
  // work of a decode of all.
  int32_t active_ = 0;
  struct TenantActive {
    uint64_t pass = 0;  // that counted it
    int32_t count = 0;
  };
  std::vector<TenantActive> active_of_;  // by tenant
  StepWork decodes_;
  int64_t held_counter_ = 0;      // the lowest of the tenants that are held
  int32_t kept_state_slots_ = 0;  // for sequences whose adapter loads
  // What the candidate starts on.
  std::vector<Block> prefix_;
  PrefixCache::Cursor prefix_end_;
  bool adapters_held_back_ = false;
  std::vector<absl::string_view> held_back_tenants_;  // by one of their own
  bool held_back_by_caller_ = false;
};

}  // namespace descant

#endif  // DESCANT_RUNTIME_CORE_SCHEDULER_H_
