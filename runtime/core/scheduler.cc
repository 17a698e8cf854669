#include "runtime/core/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/reason.h"

namespace descant {
namespace {

int32_t MaxLength(const SchedulerOptions& options) {
  DESCANT_CHECK(options.num_blocks >= 1 && options.max_model_len >= 2);
  const int64_t cache = int64_t{options.num_blocks} * kBlockSize;
  const int64_t table =
      int64_t{options.limits.max_blocks_per_sequence} * kBlockSize;
  return static_cast<int32_t>(
      std::min({int64_t{options.max_model_len}, cache, table}));
}

int32_t MaxRunning(const SchedulerOptions& options) {
  const int32_t result =
      std::min({options.max_running_sequences, options.limits.max_sequences,
                options.limits.max_rows, options.limits.max_outputs});
  DESCANT_CHECK(result >= 1);
  return result;
}

SequenceEvent EventOf(const Sequence& sequence) {
  SequenceEvent event;
  event.id = sequence.request.id;
  event.prompt_tokens = sequence.prompt_length;
  event.generated_tokens =
      static_cast<int32_t>(sequence.tokens.size()) - sequence.prompt_length;
  event.first_scheduled = sequence.first_scheduled;
  return event;
}

bool Contains(const std::vector<int32_t>& values, int32_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

Scheduler::Scheduler(SchedulerOptions options)
    : options_(std::move(options)),
      max_length_(MaxLength(options_)),
      max_running_(MaxRunning(options_)),
      max_adapters_(
          options_.max_adapters > 0
              ? std::min(options_.max_adapters, options_.limits.max_slots)
              : options_.limits.max_slots),
      blocks_(options_.num_blocks),
      slots_(options_.limits.max_slots) {
  for (Step& step : steps_) {
    ReserveBatch(options_.limits, &step.batch);
    step.parts.reserve(max_running_);
  }
  running_.reserve(max_running_);
  events_.reserve(2 * max_running_);
  slots_to_load_.reserve(options_.limits.max_slots);
  for (int32_t slot = max_running_ - 1; slot >= 0; --slot) {
    free_state_slots_.push_back(slot);
  }
}

absl::Status Scheduler::Validate(const Request& request) const {
  if (request.prompt.empty()) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "PROMPT_EMPTY",
                         "the prompt has no tokens", "prompt");
  }
  if (request.prompt.size() >= static_cast<size_t>(max_length_)) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "PROMPT_TOO_LONG",
        absl::StrCat("the prompt has ", request.prompt.size(),
                     " tokens; with an answer at most ", max_length_, " fit"),
        "prompt");
  }
  if (request.sampling.max_tokens < 1) {
    return ReasonedError(absl::StatusCode::kInvalidArgument,
                         "MAX_TOKENS_INVALID", "max_tokens must be positive",
                         "max_tokens");
  }
  if (request.adapter != nullptr && max_adapters_ == 0) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition, "ADAPTERS_OFF",
                         "this server serves no adapters", "adapter_id");
  }
  return absl::OkStatus();
}

void Scheduler::Add(Request request) {
  auto owned = std::make_unique<Sequence>(std::move(request));
  Sequence* sequence = owned.get();
  DESCANT_CHECK(sequence->prompt_length > 0 &&
                sequence->prompt_length < max_length_);
  sequence->order = ++arrivals_;
  sequence->tenant = fairness_.Enter(sequence->request.tenant);
  next_deadline_ = std::min(next_deadline_, sequence->request.deadline);
  const bool inserted =
      sequences_.emplace(sequence->request.id, std::move(owned)).second;
  DESCANT_CHECK(inserted);
  queue_.Push(sequence);
}

void Scheduler::Abort(RequestId id, FinishReason reason) {
  const auto found = sequences_.find(id);
  if (found == sequences_.end()) return;
  Sequence* sequence = found->second.get();
  if (sequence->state == SequenceState::kFinished) return;
  Finish(sequence, reason, EventOf(*sequence));
}

void Scheduler::SetPaused(RequestId id, bool paused) {
  const auto found = sequences_.find(id);
  if (found != sequences_.end()) found->second->paused = paused;
}

void Scheduler::SlotLoadFailed(int32_t slot) { TakeSlotOut(slot, true); }

void Scheduler::DeferSlot(int32_t slot) { TakeSlotOut(slot, false); }

// Only sequences admitted in this very pass can be on a slot that was never
// loaded, so none of them is in an older step.
void Scheduler::TakeSlotOut(int32_t slot, bool fail) {
  DESCANT_CHECK(!slots_.loaded(slot));
  Step& step = steps_[newest_];
  const auto gone = std::stable_partition(
      step.parts.begin(), step.parts.end(), [slot](const ScheduledRows& part) {
        return part.sequence->slot() != slot;
      });
  for (auto part = gone; part != step.parts.end(); ++part) {
    Sequence* sequence = part->sequence;
    Settle(*part);
    DESCANT_CHECK(sequence->steps_in_flight == 0);
    if (sequence->state == SequenceState::kFinished) {
      Release(sequence);  // aborted since Schedule
      continue;
    }
    if (fail) {
      Finish(sequence, FinishReason::kError, EventOf(*sequence));
      continue;
    }
    running_.erase(std::find(running_.begin(), running_.end(), sequence));
    ++sequence->skipped_steps;
    EnterPreempted(sequence);
  }
  step.parts.erase(gone, step.parts.end());
  BuildBatch(step_, &step.parts, &step.batch);
  if (step.parts.empty()) {
    --in_flight_;
    newest_ = 1 - newest_;
  }
}

void Scheduler::EnterPreempted(Sequence* sequence) {
  sequence->state = SequenceState::kPreempted;
  sequence->scheduled_length = 0;
  free_state_slots_.push_back(std::exchange(sequence->state_slot, -1));
  if (sequence->steps_in_flight == 0) GiveUpMemory(sequence);
  const auto place =
      std::upper_bound(preempted_.begin(), preempted_.end(), sequence,
                       [](const Sequence* a, const Sequence* b) {
                         return a->admission < b->admission;
                       });
  preempted_.insert(place, sequence);
}

// REQUIRES: no step in flight uses the sequence: it may yet turn out that the
// blocks are poisoned, and the slot must not be loaded anew before.
void Scheduler::GiveUpMemory(Sequence* sequence) {
  sequence->blocks.clear();
  sequence->lease.reset();
}

void Scheduler::Settle(const ScheduledRows& part) {
  --part.sequence->steps_in_flight;
  if (part.output) --part.sequence->pending_tokens;
}

FinishReason Scheduler::Append(Sequence* sequence, int32_t token) {
  const SamplingParams& sampling = sequence->request.sampling;
  sequence->tokens.push_back(token);
  const int32_t length = static_cast<int32_t>(sequence->tokens.size());
  if (!sampling.ignore_eos && Contains(options_.eos_token_ids, token)) {
    return FinishReason::kEndOfSequence;
  }
  if (Contains(sampling.stop_token_ids, token)) return FinishReason::kStopToken;
  if (length - sequence->prompt_length >= sampling.max_tokens ||
      length >= max_length_) {
    return FinishReason::kLength;
  }
  return FinishReason::kNone;
}

void Scheduler::Update(const StepOutput& output) {
  DESCANT_CHECK(in_flight_ > 0);
  Step& step = steps_[in_flight_ == 1 ? newest_ : 1 - newest_];
  DESCANT_CHECK(output.step == step.batch.step);
  DESCANT_CHECK(output.sequences.size() == step.parts.size());
  --in_flight_;
  for (size_t i = 0; i < step.parts.size(); ++i) {
    const ScheduledRows& part = step.parts[i];
    const StepOutput::PerSequence& result = output.sequences[i];
    Sequence* sequence = part.sequence;
    DESCANT_CHECK(result.id == sequence->request.id);
    Settle(part);
    if (result.numeric_fault) {
      for (Block& block : sequence->blocks) block.Taint();
    }
    if (sequence->state == SequenceState::kFinished) {
      if (sequence->steps_in_flight == 0) Release(sequence);
      continue;
    }
    sequence->skipped_steps = 0;
    if (result.numeric_fault) {
      Finish(sequence, FinishReason::kError, EventOf(*sequence));
      continue;
    }
    if (sequence->state == SequenceState::kPreempted &&
        sequence->steps_in_flight == 0) {
      GiveUpMemory(sequence);
    }
    if (!part.output) continue;
    DESCANT_CHECK(result.end - result.begin == 1);
    const int32_t token = output.sampled[result.begin].token;
    const FinishReason reason = Append(sequence, token);
    fairness_.ChargeOutput(sequence->tenant, 1);
    SequenceEvent event = EventOf(*sequence);
    event.begin = result.begin;
    event.end = result.end;
    if (reason == FinishReason::kNone) {
      events_.push_back(event);
      continue;
    }
    if (reason != FinishReason::kLength) event.stop_token = token;
    Finish(sequence, reason, event);
  }
  step.parts.clear();
}

void Scheduler::FailStep() {
  DESCANT_CHECK(in_flight_ > 0);
  Step& step = steps_[in_flight_ == 1 ? newest_ : 1 - newest_];
  --in_flight_;
  for (const ScheduledRows& part : step.parts) {
    Sequence* sequence = part.sequence;
    Settle(part);
    // What the failed step left in these blocks is unknown.
    for (Block& block : sequence->blocks) block.Taint();
    if (sequence->state == SequenceState::kFinished) {
      if (sequence->steps_in_flight == 0) Release(sequence);
    } else {
      Finish(sequence, FinishReason::kError, EventOf(*sequence));
    }
  }
  step.parts.clear();
}

void Scheduler::Finish(Sequence* sequence, FinishReason reason,
                       SequenceEvent event) {
  event.finish = reason;
  events_.push_back(event);
  switch (sequence->state) {
    case SequenceState::kWaiting:
      queue_.Remove(sequence);
      break;
    case SequenceState::kRunning:
      running_.erase(std::find(running_.begin(), running_.end(), sequence));
      break;
    case SequenceState::kPreempted:
      preempted_.erase(
          std::find(preempted_.begin(), preempted_.end(), sequence));
      break;
    case SequenceState::kFinished:
      DESCANT_CHECK(false);
  }
  sequence->state = SequenceState::kFinished;
  if (sequence->steps_in_flight == 0) Release(sequence);
}

// The one place where a sequence gives everything back.
void Scheduler::Release(Sequence* sequence) {
  if (sequence->state_slot >= 0) {
    free_state_slots_.push_back(sequence->state_slot);
  }
  fairness_.Leave(sequence->tenant);
  const size_t erased = sequences_.erase(sequence->request.id);
  DESCANT_CHECK(erased == 1);
}

void Scheduler::CheckInvariants() const {
  blocks_.CheckInvariants();
  slots_.CheckInvariants();
  queue_.CheckInvariants();
  int32_t used_blocks = 0;
  std::vector<int32_t> leases(slots_.num_slots(), 0);
  std::vector<int32_t> state_slots(max_running_, 0);
  for (const int32_t slot : free_state_slots_) ++state_slots[slot];
  size_t waiting = 0;
  size_t running = 0;
  size_t preempted = 0;
  for (const auto& [id, sequence] : sequences_) {
    const Sequence& s = *sequence;
    DESCANT_CHECK(id == s.request.id);
    DESCANT_CHECK(s.scheduled_length >= 0 && s.scheduled_length <= s.length());
    DESCANT_CHECK(s.steps_in_flight >= 0 && s.steps_in_flight <= in_flight_);
    DESCANT_CHECK(s.pending_tokens >= 0 &&
                  s.pending_tokens <= s.steps_in_flight);
    used_blocks += static_cast<int32_t>(s.blocks.size());
    if (s.lease) ++leases[s.slot()];
    if (s.state_slot >= 0) ++state_slots[s.state_slot];
    waiting += s.state == SequenceState::kWaiting;
    running += s.state == SequenceState::kRunning;
    preempted += s.state == SequenceState::kPreempted;
    if (s.state == SequenceState::kRunning) {
      DESCANT_CHECK(s.state_slot >= 0);
      DESCANT_CHECK(s.lease.has_value() == (s.request.adapter != nullptr));
      DESCANT_CHECK(static_cast<int32_t>(s.blocks.size()) >=
                    BlocksFor(s.scheduled_length));
    } else if (s.state == SequenceState::kFinished) {
      DESCANT_CHECK(s.steps_in_flight > 0);
    } else {
      DESCANT_CHECK(s.state_slot < 0);
      DESCANT_CHECK(s.steps_in_flight > 0 || (s.blocks.empty() && !s.lease));
    }
  }
  DESCANT_CHECK(used_blocks == blocks_.used());
  for (int32_t slot = 0; slot < slots_.num_slots(); ++slot) {
    DESCANT_CHECK(leases[slot] == slots_.leases(slot));
  }
  for (const int32_t holders : state_slots) DESCANT_CHECK(holders == 1);
  DESCANT_CHECK(waiting == static_cast<size_t>(queue_.size()));
  DESCANT_CHECK(running == running_.size());
  DESCANT_CHECK(preempted == preempted_.size());
  const auto by_age = [](const Sequence* a, const Sequence* b) {
    return a->admission < b->admission;
  };
  DESCANT_CHECK(std::is_sorted(running_.begin(), running_.end(), by_age));
  DESCANT_CHECK(std::is_sorted(preempted_.begin(), preempted_.end(), by_age));
  DESCANT_CHECK(slots_.leased() <= max_adapters_);
}

}  // namespace descant
