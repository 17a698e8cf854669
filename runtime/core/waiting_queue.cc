#include "runtime/core/waiting_queue.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace descant {
namespace {

bool Before(const Sequence& a, const Sequence& b) {
  if (a.request().priority != b.request().priority) {
    return a.request().priority > b.request().priority;
  }
  return a.order < b.order;
}

}  // namespace

void WaitingQueue::Push(Sequence* sequence) {
  const TokenFairness::Tenant tenant = sequence->tenant;
  if (static_cast<size_t>(tenant) >= lines_.size()) lines_.resize(tenant + 1);
  Line& line = lines_[tenant];
  if (line.head == nullptr) queued_.push_back(tenant);

  Sequence* after = line.tail;
  while (after != nullptr && Before(*sequence, *after)) after = after->previous;
  sequence->previous = after;
  sequence->next = after == nullptr ? line.head : after->next;
  (sequence->previous == nullptr ? line.head : sequence->previous->next) =
      sequence;
  (sequence->next == nullptr ? line.tail : sequence->next->previous) = sequence;

  ++size_;
  tokens_ += sequence->queue_tokens;
  fairness_->Queued(tenant);
}

void WaitingQueue::Remove(Sequence* sequence) {
  const TokenFairness::Tenant tenant = sequence->tenant;
  Line& line = lines_[tenant];
  if (line.cursor == sequence) line.cursor = sequence->next;
  (sequence->previous == nullptr ? line.head : sequence->previous->next) =
      sequence->next;
  (sequence->next == nullptr ? line.tail : sequence->next->previous) =
      sequence->previous;
  sequence->previous = nullptr;
  sequence->next = nullptr;
  if (line.head == nullptr) {
    const auto found = std::find(queued_.begin(), queued_.end(), tenant);
    *found = queued_.back();
    queued_.pop_back();
  }
  --size_;
  tokens_ -= sequence->queue_tokens;
  fairness_->Unqueued(tenant);
}

void WaitingQueue::BeginPass() {
  for (const TokenFairness::Tenant tenant : queued_) {
    lines_[tenant].cursor = lines_[tenant].head;
    lines_[tenant].skipped = 0;
    lines_[tenant].held = false;
  }
}

template <typename CandidateOf>
Sequence* WaitingQueue::Best(CandidateOf candidate_of) const {
  Sequence* best = nullptr;
  int64_t best_counter = 0;
  for (const TokenFairness::Tenant tenant : queued_) {
    Sequence* candidate = candidate_of(lines_[tenant]);
    if (candidate == nullptr) continue;
    const int64_t counter = fairness_->counter(tenant);
    if (best == nullptr || counter < best_counter ||
        (counter == best_counter && candidate->order < best->order)) {
      best = candidate;
      best_counter = counter;
    }
  }
  return best;
}

Sequence* WaitingQueue::Next() {
  return Best([](const Line& line) { return line.cursor; });
}

Sequence* WaitingQueue::First() const {
  return Best([](const Line& line) { return line.head; });
}

void WaitingQueue::Skip(Sequence* candidate) {
  Line& line = lines_[candidate->tenant];
  DESCANT_CHECK(line.cursor == candidate);
  line.cursor = ++line.skipped < kMaxSkipped ? candidate->next : nullptr;
}

void WaitingQueue::Hold(Sequence* candidate) {
  Line& line = lines_[candidate->tenant];
  DESCANT_CHECK(line.cursor == candidate);
  line.cursor = nullptr;
  line.held = true;
}

void WaitingQueue::EndPass() {
  for (const TokenFairness::Tenant tenant : queued_) {
    const Line& line = lines_[tenant];
    if (line.cursor == nullptr && !line.held) fairness_->PassedOver(tenant);
  }
}

void WaitingQueue::CheckInvariants() const {
  int32_t size = 0;
  int64_t tokens = 0;
  for (const TokenFairness::Tenant tenant : queued_) {
    const Line& line = lines_[tenant];
    DESCANT_CHECK(line.head != nullptr && line.head->previous == nullptr);
    for (const Sequence* s = line.head; s != nullptr; s = s->next) {
      DESCANT_CHECK(s->tenant == tenant);
      DESCANT_CHECK(s->state == SequenceState::kWaiting);
      DESCANT_CHECK(s->next == nullptr
                        ? line.tail == s
                        : s->next->previous == s && Before(*s, *s->next));
      ++size;
      tokens += s->queue_tokens;
    }
  }
  DESCANT_CHECK(size == size_ && tokens == tokens_);
}

}  // namespace descant
