// Scheduler::Schedule: who gets rows in the next step.
#include <algorithm>
#include <utility>

#include "runtime/base/check.h"
#include "runtime/core/scheduler.h"

namespace descant {

const Batch& Scheduler::Schedule(MonotonicTime now) {
  DESCANT_CHECK(in_flight_ < 2);
  ++pass_;
  Step& step = steps_[1 - newest_];
  step.parts.clear();
  step.batch.Clear();
  step.work = {};
  slots_to_load_.clear();
  scheduled_ = &step.batch;
  rows_left_ = options_.limits.max_rows;
  spare_outputs_ = options_.limits.max_outputs - max_running_;
  ExpireDeadlines(now);
  limits_prefills_ = false;
  ScheduleDecodes();
  limits_prefills_ = options_.target_step_seconds > 0 && !step.parts.empty();
  floor_left_ = kMinPrefillRows;
  FindPrefills();
  const bool some_wait = !preempted_.empty() || queue_.size() > 0;
  if (some_wait || !prefills_.empty()) CountRunning();
  if (!prefills_.empty()) SchedulePrefills(queue_.First());
  if (some_wait) {
    AdmitSequences(now);
    SchedulePrefills(nullptr);
  }
  if (step.parts.empty() && in_flight_ == 0) FreeStuckPrefill();
  if (options_.max_draft_tokens > 0) ScheduleDrafts();
  if (step.parts.empty()) return step.batch;
  ++in_flight_;
  newest_ = 1 - newest_;
  BuildBatch(++step_, &step.parts, &step.batch);
  return step.batch;
}

void Scheduler::ExpireDeadlines(MonotonicTime now) {
  if (now < next_deadline_) return;
  next_deadline_ = kNoDeadline;
  expired_.clear();
  for (const auto& [id, group] : groups_) {
    if (group->unfinished == 0) continue;
    const MonotonicTime deadline = group->request.deadline;
    if (deadline <= now) {
      expired_.push_back(group.get());
    } else {
      next_deadline_ = std::min(next_deadline_, deadline);
    }
  }
  // By arrival: the order of a hash map is not reproducible.
  std::sort(expired_.begin(), expired_.end(),
            [](const SequenceGroup* a, const SequenceGroup* b) {
              return a->order < b->order;
            });
  for (SequenceGroup* group : expired_) {
    FinishGroup(group, FinishReason::kDeadline);
  }
}

void Scheduler::ScheduleDecodes() {
  // Preempt() leaves running_ alone, so that the indices hold.
  for (size_t i = 0; i < running_.size() && rows_left_ > 0; ++i) {
    Sequence* sequence = running_[i];
    if (sequence->state != SequenceState::kRunning || sequence->paused ||
        sequence->rows_left() != 1 || sequence->drafts_in_flight > 0 ||
        sequence->length() >= sequence->max_length) {
      continue;  // or the samples in flight will end it
    }
    // Without a block the youngest just waits, and keeps what it has.
    if (GrowBlocks(sequence, sequence->scheduled_length + 1, true)) {
      Place(sequence, 1);
    }
  }
  CompactRunning();
}

// The one with the fewest rows left first: most often it is the oldest, or has
// overtaken that one before.
void Scheduler::FindPrefills() {
  prefills_.clear();
  continued_ = 0;
  for (Sequence* sequence : running_) {
    if (sequence->rows_left() > 1 && !sequence->paused) {
      prefills_.push_back(sequence);
    }
  }
  std::sort(prefills_.begin(), prefills_.end(),
            [](const Sequence* a, const Sequence* b) {
              if (a->rows_left() != b->rows_left()) {
                return a->rows_left() < b->rows_left();
              }
              return a->admission < b->admission;
            });
}

// A long prompt of one tenant holds up a short one of another for a step at
// most, as long as that tenant got less: its prompt is charged as a whole when
// it starts.
bool Scheduler::Overtakes(const Sequence& waiting,
                          const Sequence& prefill) const {
  return waiting.rows_left() < prefill.rows_left() &&
         fairness_.counter(waiting.tenant) < fairness_.counter(prefill.tenant);
}

// Those that have not had their turn in this pass, up to the first that
// `waiting` overtakes.
void Scheduler::SchedulePrefills(const Sequence* waiting) {
  for (; continued_ < prefills_.size() && rows_left_ > 0; ++continued_) {
    Sequence* prefill = prefills_[continued_];
    if (waiting != nullptr && Overtakes(*waiting, *prefill)) return;
    ContinuePrefill(prefill);
  }
}

// Rows whose outputs score the prompt take no more outputs than are spare: each
// sequence that may run has one for itself.
int32_t Scheduler::ChunkRows(const Sequence& sequence) const {
  const int32_t rows =
      RowsInTime(sequence, std::min(sequence.rows_left(), rows_left_));
  if (sequence.scored == sequence.to_score) return rows;
  const int32_t unscored = std::max(sequence.scheduled_length, sequence.scored);
  return std::min(rows,
                  unscored + 1 + spare_outputs_ - sequence.scheduled_length);
}

void Scheduler::ContinuePrefill(Sequence* sequence) {
  int32_t rows = ChunkRows(*sequence);
  GrowBlocks(sequence, sequence->scheduled_length + rows, false);
  const int32_t room =
      static_cast<int32_t>(sequence->blocks.size()) * kBlockSize;
  rows = std::min(rows, room - sequence->scheduled_length);
  if (rows > 0) Place(sequence, rows);
}

// Decodes took the blocks that prefills counted on, and none of them runs now
// (they are paused): the oldest prefill takes them back.
void Scheduler::FreeStuckPrefill() {
  for (Sequence* sequence : running_) {
    if (sequence->paused || sequence->rows_left() <= 1) continue;
    const int32_t rows = ChunkRows(*sequence);
    if (GrowBlocks(sequence, sequence->scheduled_length + rows, true)) {
      Place(sequence, rows);
    }
    break;
  }
  CompactRunning();
}

bool Scheduler::GrowBlocks(Sequence* sequence, int32_t length, bool preempt) {
  const size_t wanted = BlocksFor(length);
  while (sequence->blocks.size() < wanted) {
    if (std::optional<Block> block = blocks_.Allocate()) {
      sequence->blocks.push_back(std::move(*block));
      continue;
    }
    if (prefix_cache_.Evict()) continue;
    if (ReclaimPrompt()) continue;
    // Blocks of a victim that a step in flight still uses come free with it.
    const bool coming =
        !preempted_.empty() &&
        std::any_of(preempted_.begin(), preempted_.end(),
                    [](const Sequence* s) { return !s->blocks.empty(); });
    Sequence* victim = preempt && !coming ? PickVictim(*sequence) : nullptr;
    if (victim == nullptr) return false;
    Preempt(victim);
  }
  return true;
}

// A paused sequence if there is one, for it loses least; else the youngest one
// younger than `needy`. Never one that has rows in this pass.
Sequence* Scheduler::PickVictim(const Sequence& needy) {
  Sequence* youngest = nullptr;
  for (size_t i = running_.size(); i-- > 0;) {
    Sequence* candidate = running_[i];
    if (candidate == &needy || candidate->visited_pass == pass_ ||
        candidate->state != SequenceState::kRunning ||
        candidate->blocks.empty()) {
      continue;
    }
    if (candidate->paused) return candidate;
    if (youngest == nullptr && candidate->admission > needy.admission) {
      youngest = candidate;
    }
  }
  return youngest;
}

void Scheduler::Preempt(Sequence* sequence) {
  ++preemptions_;
  EnterPreempted(sequence);
}

void Scheduler::CompactRunning() {
  std::erase_if(running_, [](const Sequence* sequence) {
    return sequence->state != SequenceState::kRunning;
  });
}

void Scheduler::Place(Sequence* sequence, int32_t rows) {
  ScheduledRows part;
  part.sequence = sequence;
  part.begin = sequence->scheduled_length;
  part.rows = rows;
  part.output = rows == sequence->rows_left();
  part.generated = sequence->generated();
  if (sequence->scored < sequence->to_score) {
    const int32_t end = std::min(part.begin + rows, sequence->to_score);
    part.scored = std::max(0, end - std::max(part.begin, sequence->scored));
    spare_outputs_ -= std::max(0, part.scored + (part.output ? 1 : 0) - 1);
    sequence->scored += part.scored;
  }
  steps_[1 - newest_].parts.push_back(part);
  CountWork(part);
  sequence->scheduled_length += rows;
  if (part.output) ++sequence->pending_tokens;
  ++sequence->steps_in_flight;
  sequence->visited_pass = pass_;
  rows_left_ -= rows;
}

}  // namespace descant
