// Scheduler: guessed tokens get the rows that are left, and their results.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/core/scheduler.h"

namespace descant {

void Scheduler::StartSpeculation(Sequence* sequence) {
  const int32_t most =
      std::min(options_.max_draft_tokens, sequence->request().max_draft_tokens);
  // The first token has no draft before it, the last one none behind it.
  const int32_t answer = sequence->max_length - sequence->prompt_length;
  if (most <= 0 || answer <= 2) return;
  sequence->speculation =
      std::make_unique<Speculation>(most, sequence->max_length);
}

void Scheduler::ScheduleDrafts() {
  Step& step = steps_[1 - newest_];
  int32_t rows = rows_left_;
  if (limits_prefills_) {
    rows = step_time_.RowsWithin(options_.target_step_seconds, step.work,
                                 /*begin=*/0, rows);
  }
  if (rows <= 0 || spare_outputs_ <= 0) return;
  std::vector<ScheduledRows>& parts = step.parts;
  const auto decodes =
      std::count_if(parts.begin(), parts.end(),
                    [](const ScheduledRows& part) { return part.output; });
  const double least = draft_budget_.LeastChance(static_cast<int32_t>(decodes));
  int32_t most = 0;
  for (const ScheduledRows& part : parts) {
    most = std::max(most, GuessNext(part, least));
  }
  // One for each in turn: nobody's drafts take the place of likelier ones.
  for (int32_t i = 0; i < most; ++i) {
    for (ScheduledRows& part : parts) {
      const Speculation* speculation = part.sequence->speculation.get();
      if (speculation == nullptr || speculation->wanted <= i) continue;
      if (rows == 0 || spare_outputs_ == 0) break;
      ++part.drafts;
      --rows;
      --rows_left_;
      --spare_outputs_;
    }
  }
  if (most == 0) return;
  for (ScheduledRows& part : parts) {
    if (part.drafts > 0) FitDrafts(&part);
  }
}

// The sequence's guesses, and how many of them are worth a row.
int32_t Scheduler::GuessNext(const ScheduledRows& part, double least_chance) {
  const Sequence& sequence = *part.sequence;
  Speculation* speculation = sequence.speculation.get();
  if (speculation == nullptr) return 0;
  speculation->wanted = 0;
  const int32_t known = static_cast<int32_t>(sequence.tokens.size());
  // A decode all of whose tokens are known.
  if (part.rows != 1 || !part.output || part.scored > 0 ||
      part.generated == 0 || part.begin + 1 != known) {
    return 0;
  }
  const int32_t most =
      std::min(speculation->most, sequence.max_length - known - 1);
  if (most <= 0) return 0;
  speculation->guessed = speculation->lookup.Propose(
      sequence.tokens, absl::MakeSpan(speculation->guesses).first(most));
  double chance = speculation->acceptance.chance();
  while (speculation->wanted < speculation->guessed && chance >= least_chance) {
    ++speculation->wanted;
    chance *= speculation->acceptance.chance();
  }
  return speculation->wanted;
}

// Drafts have blocks only where all that run could have another one as well;
// they are given back with the result.
void Scheduler::FitDrafts(ScheduledRows* part) {
  Sequence* sequence = part->sequence;
  const int32_t length = part->begin + part->rows + part->drafts;
  while (static_cast<int32_t>(sequence->blocks.size()) < BlocksFor(length) &&
         blocks_.available() > running()) {
    std::optional<Block> block = blocks_.Allocate();
    if (block) {
      sequence->blocks.push_back(std::move(*block));
    } else if (!prefix_cache_.Evict()) {
      break;
    }
  }
  const int32_t room =
      static_cast<int32_t>(sequence->blocks.size()) * kBlockSize;
  part->drafts = std::min(part->drafts, room - part->begin - part->rows);
  sequence->drafts_in_flight = part->drafts;
  steps_[1 - newest_].work.AddRows(part->begin + part->rows, part->drafts);
}

void Scheduler::JudgeGuesses(const ScheduledRows& part,
                             absl::Span<const SampledToken> sampled,
                             int32_t taken) {
  Speculation& speculation = *part.sequence->speculation;
  if (std::exchange(speculation.guessed, 0) == 0) return;
  if (part.drafts == 0) {
    const bool right = sampled[0].token == speculation.guesses[0];
    speculation.acceptance.Observe(right ? 1 : 0, !right);
    return;
  }
  const int32_t right = static_cast<int32_t>(sampled.size()) - 1;
  for (int32_t i = 0; i < right; ++i) {
    DESCANT_CHECK(sampled[i].token == speculation.guesses[i]);
  }
  speculation.acceptance.Observe(right, right < part.drafts);
  const int32_t accepted = std::min(right, taken);
  speculation.draft_tokens += part.drafts;
  speculation.accepted_draft_tokens += accepted;
  ++speculation_.drafts;
  speculation_.draft_tokens += part.drafts;
  speculation_.accepted_draft_tokens += accepted;
}

// Of the rows of a step with drafts, those up to `computed` stay.
void Scheduler::KeepComputed(Sequence* sequence, int32_t computed) {
  sequence->scheduled_length = computed;
  const int32_t blocks = BlocksFor(sequence->length());
  while (static_cast<int32_t>(sequence->blocks.size()) > blocks) {
    sequence->blocks.pop_back();
  }
}

// A fault in the first row of a step with drafts: whether it is the sequence's
// own shows without them. No sample has found the rows before it sound.
void Scheduler::StopDrafts(const ScheduledRows& part) {
  Sequence* sequence = part.sequence;
  sequence->speculation->guessed = 0;
  sequence->speculation->most = 0;
  if (sequence->state == SequenceState::kRunning) {
    KeepComputed(sequence, part.begin);
  }
}

}  // namespace descant
