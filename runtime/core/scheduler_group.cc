// Scheduler: requests come, share their prompts and go.
#include <algorithm>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "runtime/base/check.h"
#include "runtime/core/scheduler.h"

namespace descant {

void Scheduler::Add(Request request) {
  auto owned = std::make_unique<SequenceGroup>(std::move(request));
  SequenceGroup* group = owned.get();
  const SamplingParams& sampling = group->request.sampling;
  std::vector<int32_t> prompt = std::move(group->request.prompt);
  const int32_t length = static_cast<int32_t>(prompt.size());
  DESCANT_CHECK(length > 0 && length < max_length_ && sampling.n >= 1);
  group->order = arrivals_ + 1;
  arrivals_ += sampling.n;
  group->end_tokens = sampling.stop_token_ids;
  if (!sampling.ignore_eos) {
    group->end_tokens.insert(group->end_tokens.end(),
                             options_.eos_token_ids.begin(),
                             options_.eos_token_ids.end());
  }
  next_deadline_ = std::min(next_deadline_, group->request.deadline);
  const bool inserted =
      groups_.emplace(group->request.id, std::move(owned)).second;
  DESCANT_CHECK(inserted);
  group->tenant =
      fairness_.Enter(group->request.tenant, group->request.tenant_weight);
  Sequence* first = AddSequence(group, 0, std::move(prompt));
  if (sampling.prompt_logprobs >= 0) first->to_score = length - 1;
  group->to_come = sampling.n - 1;
  to_come_ += group->to_come;
  // Nothing to share; but a scored prompt comes before any answer.
  if (SharedBlocks(length) == 0 && first->to_score == 0) StartOthers(*first);
}

Sequence* Scheduler::AddSequence(SequenceGroup* group, int32_t choice,
                                 std::vector<int32_t> prompt) {
  Sequence* sequence = group->sequences
                           .emplace_back(std::make_unique<Sequence>(
                               group, choice, std::move(prompt)))
                           .get();
  sequence->order = group->order + choice;
  sequence->tenant = group->tenant;
  sequence->paused = group->paused;
  sequence->max_length = static_cast<int32_t>(std::min<int64_t>(
      int64_t{sequence->prompt_length} + group->request.sampling.max_tokens,
      max_length_));
  sequence->queue_tokens = sequence->prompt_length;
  if (choice > 0) {
    sequence->queue_tokens -=
        SharedBlocks(sequence->prompt_length) * kBlockSize;
  }
  queue_.Push(sequence);
  return sequence;
}

void Scheduler::StartOthers(const Sequence& first) {
  SequenceGroup* group = first.group;
  to_come_ -= group->to_come;
  for (; group->to_come > 0; --group->to_come) {
    const auto begin = first.tokens.begin();
    AddSequence(group, group->request.sampling.n - group->to_come,
                {begin, begin + first.prompt_length});
  }
}

// REQUIRES: the sequence has a token, that is, its prompt's blocks are sound.
void Scheduler::HoldPrompt(const Sequence& sequence) {
  SequenceGroup* group = sequence.group;
  const size_t blocks = SharedBlocks(sequence.prompt_length);
  if (!group->prompt_blocks.empty() || sequence.blocks.size() < blocks ||
      blocks == 0 || sequence.state != SequenceState::kRunning) {
    return;
  }
  for (size_t i = 0; i < blocks; ++i) {
    group->prompt_blocks.push_back(sequence.blocks[i].Share());
  }
  holding_.push_back(group);
}

void Scheduler::DropPrompt(SequenceGroup* group) {
  if (group->prompt_blocks.empty()) return;
  group->prompt_blocks.clear();
  prefix_cache_.Trim();
  holding_.erase(std::find(holding_.begin(), holding_.end(), group));
}

// Gives up the youngest hold that keeps a block which no sequence has, nor the
// one that is being admitted, and those that keep the same block. (Who has a
// block has those before it, so the last one decides.)
bool Scheduler::ReclaimPrompt() {
  absl::InlinedVector<SequenceGroup*, 16> holders;
  for (size_t i = holding_.size(); i-- > 0;) {
    const size_t last = holding_[i]->prompt_blocks.size() - 1;
    const int32_t id = holding_[i]->prompt_blocks[last].id();
    holders.clear();
    for (SequenceGroup* group : holding_) {
      const std::vector<Block>& held = group->prompt_blocks;
      if (held.size() > last && held[last].id() == id) {
        holders.push_back(group);
      }
    }
    if (static_cast<int32_t>(holders.size()) != blocks_.holds(id)) continue;
    for (SequenceGroup* group : holders) DropPrompt(group);
    return true;
  }
  return false;
}

void Scheduler::Abort(RequestId id, FinishReason reason) {
  const auto found = groups_.find(id);
  if (found != groups_.end()) FinishGroup(found->second.get(), reason);
}

void Scheduler::AbortChoice(RequestId id, int32_t choice, FinishReason reason) {
  const auto found = groups_.find(id);
  if (found == groups_.end()) return;
  for (const auto& owned : found->second->sequences) {
    Sequence* sequence = owned.get();
    if (sequence->choice != choice ||
        sequence->state == SequenceState::kFinished) {
      continue;
    }
    StartOthers(*sequence);  // who waited for this one don't any more
    Finish(sequence, reason, EventOf(*sequence));
    return;
  }
}

void Scheduler::SetPaused(RequestId id, bool paused) {
  const auto found = groups_.find(id);
  if (found == groups_.end()) return;
  found->second->paused = paused;
  for (const auto& sequence : found->second->sequences) {
    sequence->paused = paused;
    // A slot that it only waits for is of use to others.
    if (paused && sequence->state != SequenceState::kRunning &&
        sequence->steps_in_flight == 0) {
      sequence->lease.reset();
    }
  }
}

// An answer that fails takes the others with it: the request has failed.
void Scheduler::FinishGroup(SequenceGroup* group, FinishReason reason) {
  to_come_ -= group->to_come;
  group->unfinished -= std::exchange(group->to_come, 0);
  // Finish may destroy sequences, and with the last one the group.
  absl::InlinedVector<Sequence*, 16> sequences;
  for (const auto& sequence : group->sequences) {
    if (sequence->state == SequenceState::kFinished) continue;
    sequences.push_back(sequence.get());
  }
  for (Sequence* sequence : sequences) {
    Finish(sequence, reason, EventOf(*sequence));
  }
}

void Scheduler::Finish(Sequence* sequence, FinishReason reason,
                       SequenceEvent event) {
  SequenceGroup* group = sequence->group;
  event.finish = reason;
  event.last = --group->unfinished == 0;
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
  if (event.last) DropPrompt(group);
  if (sequence->steps_in_flight == 0) Release(sequence);
}

// The one place where a sequence gives everything back.
void Scheduler::Release(Sequence* sequence) {
  if (sequence->state_slot >= 0) {
    free_state_slots_.push_back(sequence->state_slot);
  }
  ReleaseBlocks(sequence);
  prefix_cache_.Trim();
  SequenceGroup* group = sequence->group;
  const auto found = std::find_if(
      group->sequences.begin(), group->sequences.end(),
      [sequence](const auto& owned) { return owned.get() == sequence; });
  DESCANT_CHECK(found != group->sequences.end());
  group->sequences.erase(found);
  if (!group->sequences.empty()) return;
  DESCANT_CHECK(group->unfinished == 0);
  fairness_.Leave(group->tenant);
  groups_.erase(group->request.id);
}

}  // namespace descant
