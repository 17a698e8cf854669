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

bool Contains(const std::vector<int32_t>& values, int32_t value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// All but what others share or may find: that was found sound before, and
// nobody wrote to it since.
void TaintBlocks(Sequence* sequence) {
  for (Block& block : sequence->blocks) {
    if (!block.shared() && !block.cached()) block.Taint();
  }
}

void CheckSequence(const Sequence& s, int32_t in_flight) {
  DESCANT_CHECK(s.scheduled_length >= 0 && s.scheduled_length <= s.length());
  DESCANT_CHECK(s.steps_in_flight >= 0 && s.steps_in_flight <= in_flight);
  DESCANT_CHECK(s.drafts_in_flight == 0 || s.pending_tokens == 1);
  DESCANT_CHECK(s.pending_tokens >= 0 && s.pending_tokens <= s.steps_in_flight);
  DESCANT_CHECK(s.scored >= 0 && s.scored <= s.to_score);
  DESCANT_CHECK(s.to_score < s.prompt_length);
  if (s.state == SequenceState::kRunning) {
    DESCANT_CHECK(s.state_slot >= 0);
    DESCANT_CHECK(s.lease.has_value() == (s.request().adapter != nullptr));
    DESCANT_CHECK(static_cast<int32_t>(s.blocks.size()) >=
                  BlocksFor(s.scheduled_length));
    // What is yet to be written is its own.
    for (size_t i = s.scheduled_length / kBlockSize; i < s.blocks.size(); ++i) {
      DESCANT_CHECK(!s.blocks[i].shared() && !s.blocks[i].cached());
    }
  } else if (s.state == SequenceState::kFinished) {
    DESCANT_CHECK(s.steps_in_flight > 0);
  } else {
    // A lease is that of an adapter that loads, or was loaded for it.
    DESCANT_CHECK(s.state_slot < 0);
    DESCANT_CHECK(s.steps_in_flight > 0 || s.blocks.empty());
  }
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
      slots_(options_.limits.max_slots),
      slot_bytes_(options_.limits.max_slots),
      slot_pass_(options_.limits.max_slots) {
  DESCANT_CHECK(options_.max_draft_tokens >= 0 &&
                options_.max_draft_tokens <= kMaxDraftTokens);
  for (Step& step : steps_) {
    ReserveBatch(options_.limits, &step.batch);
    step.parts.reserve(max_running_);
  }
  running_.reserve(max_running_);
  prefills_.reserve(max_running_);
  prefix_.reserve(BlocksFor(max_length_));
  events_.reserve(2 * max_running_);
  slots_to_load_.reserve(options_.limits.max_slots);
  held_back_tenants_.reserve(options_.limits.max_slots);
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
  if (request.sampling.n < 1) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "N_INVALID",
                         "at least one answer must be asked for", "n");
  }
  if (request.adapter != nullptr && max_adapters_ == 0) {
    return ReasonedError(absl::StatusCode::kFailedPrecondition, "ADAPTERS_OFF",
                         "this server serves no adapters", "adapter_id");
  }
  return absl::OkStatus();
}

// Rows that score the prompt must be computed.
bool Scheduler::UsesPrefixCache(const Sequence& sequence) const {
  return options_.prefix_cache && !sequence.request().bypass_prefix_cache &&
         sequence.scored == sequence.to_score;
}

// A sample found all rows up to `computed` sound. Full blocks of them are
// final.
void Scheduler::CacheBlocks(Sequence* sequence, int32_t computed) {
  while (!sequence->cached.lost &&
         (sequence->cached.depth + 1) * kBlockSize <= computed) {
    const int32_t index = sequence->cached.depth;
    const Request& request = sequence->request();
    sequence->cached = prefix_cache_.Add(
        sequence->cached, PrefixRootOf(*sequence),
        absl::MakeConstSpan(sequence->tokens)
            .subspan(size_t{kBlockSize} * index, size_t{kBlockSize}),
        sequence->blocks[index],
        {request.tenant_weight, request.tenant_cached_blocks});
  }
}

// REQUIRES: no step in flight uses the sequence: it may yet turn out that the
// blocks are poisoned, and the slot must not be loaded anew before.
void Scheduler::GiveUpMemory(Sequence* sequence) {
  ReleaseBlocks(sequence);
  prefix_cache_.Trim();
  sequence->lease.reset();
}

// By arrival: the order of a hash map is not reproducible.
std::vector<Sequence*> Scheduler::WaitersFor(int32_t slot) const {
  std::vector<Sequence*> waiters;
  for (const auto& [id, group] : groups_) {
    for (const auto& sequence : group->sequences) {
      if (sequence->slot() == slot) waiters.push_back(sequence.get());
    }
  }
  std::sort(
      waiters.begin(), waiters.end(),
      [](const Sequence* a, const Sequence* b) { return a->order < b->order; });
  return waiters;
}

void Scheduler::SlotLoadFailed(int32_t slot) {
  // Nobody runs on a slot that was never loaded.
  std::vector<SequenceGroup*> groups;
  for (const Sequence* waiter : WaitersFor(slot)) {
    if (groups.empty() || groups.back() != waiter->group) {
      groups.push_back(waiter->group);
    }
  }
  slots_.EndLoad(slot, false);
  for (SequenceGroup* group : groups) {
    FinishGroup(group, FinishReason::kError);
  }
}

void Scheduler::DeferSlot(int32_t slot, bool own_share) {
  for (Sequence* waiter : WaitersFor(slot)) {
    waiter->lease.reset();
    ++waiter->skipped_steps;
    waiter->deferred_at = slots_.releases() + 1;
    waiter->deferred_by_share = own_share;
  }
  slots_.EndLoad(slot, false);
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

void Scheduler::Settle(const ScheduledRows& part) {
  --part.sequence->steps_in_flight;
  if (part.output) --part.sequence->pending_tokens;
  if (part.drafts > 0) part.sequence->drafts_in_flight = 0;
}

FinishReason Scheduler::Append(Sequence* sequence, int32_t token) {
  sequence->tokens.push_back(token);
  // The request itself is far away: most sequences don't need it here.
  const SamplingParams* special =
      sequence->plain_end ? nullptr : &sequence->request().sampling;
  if ((special == nullptr || !special->ignore_eos) &&
      Contains(options_.eos_token_ids, token)) {
    return FinishReason::kEndOfSequence;
  }
  if (special != nullptr && Contains(special->stop_token_ids, token)) {
    return FinishReason::kStopToken;
  }
  if (static_cast<int32_t>(sequence->tokens.size()) >= sequence->max_length) {
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
  updated_work_ = step.work;
  observed_rows_ =
      step.batch.rows() == step.batch.outputs() ? step.batch.rows() : 0;
  for (size_t i = 0; i < step.parts.size(); ++i) {
    TakeResult(step.parts[i], output, output.sequences[i]);
  }
  step.parts.clear();
}

void Scheduler::CompleteBatch() {
  Step& step = steps_[newest_];
  DESCANT_CHECK(scheduled_ == &step.batch);
  for (size_t i = 0; i < step.parts.size(); ++i) {
    const ScheduledRows& part = step.parts[i];
    const std::vector<int32_t>& known = part.sequence->tokens;
    // A decode's; a chunk of a prompt has no such token.
    int32_t& token = step.batch.tokens[step.batch.sequences[i].row_begin];
    if (token == kTokenFromLastStep &&
        part.begin < static_cast<int32_t>(known.size())) {
      token = known[part.begin];
    }
  }
}

// The row's own token, and one for each draft that was right. `taken`: those
// up to the end of the sequence.
FinishReason Scheduler::TakeTokens(const ScheduledRows& part,
                                   absl::Span<const SampledToken> sampled,
                                   int32_t* taken) {
  Sequence* sequence = part.sequence;
  const int32_t count = static_cast<int32_t>(sampled.size());
  DESCANT_CHECK(count >= 1 && count <= 1 + part.drafts);
  const bool running = sequence->state == SequenceState::kRunning;
  if (running) CacheBlocks(sequence, part.begin + part.rows);
  // Its first token: the prompt's blocks are sound.
  if (sequence->has_siblings) {
    StartOthers(*sequence);
    HoldPrompt(*sequence);
  }
  FinishReason reason = FinishReason::kNone;
  *taken = 0;
  while (*taken < count && reason == FinishReason::kNone) {
    reason = Append(sequence, sampled[(*taken)++].token);
  }
  fairness_.ChargeOutput(sequence->tenant, *taken);
  if (sequence->speculation != nullptr) JudgeGuesses(part, sampled, *taken);
  if (part.drafts > 0 && running) {
    KeepComputed(sequence, part.begin + *taken);
    CacheBlocks(sequence, sequence->scheduled_length);
  }
  return reason;
}

void Scheduler::TakeResult(const ScheduledRows& part, const StepOutput& output,
                           const StepOutput::PerSequence& result) {
  Sequence* sequence = part.sequence;
  DESCANT_CHECK(result.id == sequence->id);
  Settle(part);
  const bool lost = result.numeric_fault || result.failed;
  if (lost) TaintBlocks(sequence);
  if (sequence->state == SequenceState::kFinished) {
    if (sequence->steps_in_flight == 0) Release(sequence);
    return;
  }
  sequence->skipped_steps = 0;
  if (lost) {
    FinishGroup(sequence->group, FinishReason::kError);
    return;
  }
  if (sequence->state == SequenceState::kPreempted &&
      sequence->steps_in_flight == 0) {
    GiveUpMemory(sequence);
  }
  if (!part.output && part.scored == 0) return;
  const int32_t begin = result.begin + part.scored;
  const auto sampled =
      absl::MakeConstSpan(output.sampled).subspan(begin, result.end - begin);
  if (part.drafts > 0 && sampled.empty()) return StopDrafts(part);
  FinishReason reason = FinishReason::kNone;
  int32_t taken = 0;
  if (part.output) {
    reason = TakeTokens(part, sampled, &taken);
  } else {
    DESCANT_CHECK(sampled.empty());
  }
  SequenceEvent event = EventOf(*sequence);
  event.prompt_begin = result.begin;
  event.begin = begin;
  event.end = begin + taken;
  if (reason == FinishReason::kNone) {
    events_.push_back(event);
    return;
  }
  if (reason != FinishReason::kLength) {
    event.stop_token = output.sampled[event.end - 1].token;
  }
  Finish(sequence, reason, event);
}

void Scheduler::FailStep() {
  DESCANT_CHECK(in_flight_ > 0);
  Step& step = steps_[in_flight_ == 1 ? newest_ : 1 - newest_];
  --in_flight_;
  observed_rows_ = 0;
  for (const ScheduledRows& part : step.parts) {
    Sequence* sequence = part.sequence;
    Settle(part);
    // What the failed step left in these blocks is unknown.
    TaintBlocks(sequence);
    if (sequence->state == SequenceState::kFinished) {
      if (sequence->steps_in_flight == 0) Release(sequence);
    } else {
      FinishGroup(sequence->group, FinishReason::kError);
    }
  }
  step.parts.clear();
}

void Scheduler::CheckInvariants() const {
  blocks_.CheckInvariants();
  prefix_cache_.CheckInvariants();
  slots_.CheckInvariants();
  queue_.CheckInvariants();
  std::vector<int32_t> holds(blocks_.total(), 0);
  std::vector<int32_t> leases(slots_.num_slots(), 0);
  std::vector<int32_t> state_slots(max_running_, 0);
  for (const int32_t slot : free_state_slots_) ++state_slots[slot];
  std::array<int32_t, 4> states{};
  int32_t to_come = 0;
  size_t holding = 0;
  for (const auto& [id, group] : groups_) {
    DESCANT_CHECK(id == group->request.id && !group->sequences.empty());
    to_come += group->to_come;
    holding += group->prompt_blocks.empty() ? 0 : 1;
    int32_t unfinished = group->to_come;
    for (const Block& block : group->prompt_blocks) ++holds[block.id()];
    for (const auto& sequence : group->sequences) {
      const Sequence& s = *sequence;
      DESCANT_CHECK(s.group == group.get());
      CheckSequence(s, in_flight_);
      unfinished += s.state != SequenceState::kFinished;
      ++states[static_cast<size_t>(s.state)];
      for (const Block& block : s.blocks) ++holds[block.id()];
      if (s.lease) ++leases[s.slot()];
      if (s.state_slot >= 0) ++state_slots[s.state_slot];
    }
    DESCANT_CHECK(unfinished == group->unfinished);
    DESCANT_CHECK(unfinished > 0 || group->prompt_blocks.empty());
  }
  for (int32_t id = 0; id < blocks_.total(); ++id) {
    DESCANT_CHECK(holds[id] == blocks_.holds(id));
  }
  DESCANT_CHECK(to_come == to_come_ && holding == holding_.size());
  for (int32_t slot = 0; slot < slots_.num_slots(); ++slot) {
    DESCANT_CHECK(leases[slot] == slots_.users(slot));
  }
  for (const int32_t holders : state_slots) DESCANT_CHECK(holders == 1);
  DESCANT_CHECK(states[0] == queue_.size());
  DESCANT_CHECK(states[1] == running());
  DESCANT_CHECK(states[2] == preempted());
  const auto by_age = [](const Sequence* a, const Sequence* b) {
    return a->admission < b->admission;
  };
  DESCANT_CHECK(std::is_sorted(running_.begin(), running_.end(), by_age));
  DESCANT_CHECK(std::is_sorted(preempted_.begin(), preempted_.end(), by_age));
  DESCANT_CHECK(slots_.used() <= max_adapters_);
}

}  // namespace descant
