// Batches are rendered as one line of text and compared. "1[3]* 2@0[0-4] |
// 0:1-6" reads: sequence 1 with the row at position 3, which samples a token;
// sequence 2 on slot 0 with the rows at positions 0 to 4, a chunk without a
// sample; slot 0 is the segment of rows 1 to 5. "?" marks a row whose token is
// still in flight. "1.2" is the answer with index 2 to request 1; "^4" means
// that four rows score the prompt. "1[3+2]*" has two drafts behind the row.
#ifndef DESCANT_TESTS_RUNTIME_CORE_SCHEDULER_FIXTURE_H_
#define DESCANT_TESTS_RUNTIME_CORE_SCHEDULER_FIXTURE_H_

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/reason.h"
#include "runtime/core/scheduler.h"
#include "tests/testing/fake_runner.h"

namespace descant {

inline constexpr int32_t kEos = 99;

inline int32_t DraftsOf(const BatchSequence& s) {
  return std::max(0, s.output_end - s.output_begin - s.prompt_outputs - 1);
}

inline std::string Render(const Batch& batch) {
  std::string line;
  for (const BatchSequence& s : batch.sequences) {
    absl::StrAppend(&line, line.empty() ? "" : " ", s.id);
    if (s.choice > 0) absl::StrAppend(&line, ".", s.choice);
    if (s.slot != kNoSlot) absl::StrAppend(&line, "@", s.slot);
    absl::StrAppend(&line, "[", batch.positions[s.row_begin]);
    const int32_t drafts = DraftsOf(s);
    if (s.row_end - s.row_begin > 1 + drafts) {
      absl::StrAppend(&line, "-", batch.positions[s.row_end - drafts - 1]);
    }
    if (drafts > 0) absl::StrAppend(&line, "+", drafts);
    absl::StrAppend(&line, "]");
    if (batch.tokens[s.row_begin] == kTokenFromLastStep) {
      absl::StrAppend(&line, "?");
    }
    if (s.prompt_outputs > 0) absl::StrAppend(&line, "^", s.prompt_outputs);
    if (s.output_end - s.output_begin > s.prompt_outputs) {
      absl::StrAppend(&line, "*");
    }
  }
  absl::StrAppend(&line, " |");
  for (const Segment& segment : batch.segments) {
    absl::StrAppend(&line, " ", segment.slot, ":", segment.row_begin, "-",
                    segment.row_end);
  }
  return line;
}

inline std::string Render(const std::vector<SequenceEvent>& events) {
  std::string line;
  for (const SequenceEvent& event : events) {
    absl::StrAppend(&line, line.empty() ? "" : " ", event.id);
    if (event.choice > 0) absl::StrAppend(&line, ".", event.choice);
    absl::StrAppend(&line, ":", event.generated_tokens);
    if (event.begin > event.prompt_begin) {
      absl::StrAppend(&line, "^", event.begin - event.prompt_begin);
    }
    switch (event.finish) {
      case FinishReason::kNone:
        break;
      case FinishReason::kLength:
        absl::StrAppend(&line, "=length");
        break;
      case FinishReason::kEndOfSequence:
        absl::StrAppend(&line, "=eos");
        break;
      case FinishReason::kStopToken:
        absl::StrAppend(&line, "=stop(", event.stop_token, ")");
        break;
      case FinishReason::kStopString:
        absl::StrAppend(&line, "=string");
        break;
      case FinishReason::kCancelled:
        absl::StrAppend(&line, "=cancelled");
        break;
      case FinishReason::kDeadline:
        absl::StrAppend(&line, "=deadline");
        break;
      case FinishReason::kError:
        absl::StrAppend(&line, "=error");
        break;
    }
  }
  return line;
}

class SchedulerFixture : public testing::Test {
 protected:
  SchedulerFixture() {
    options_.limits.max_rows = 16;
    options_.limits.max_sequences = 4;
    options_.limits.max_outputs = 4;
    options_.limits.max_blocks_per_sequence = 8;
    options_.limits.max_slots = 2;
    options_.num_blocks = 16;
    options_.max_model_len = 200;
    options_.max_running_sequences = 4;
    options_.eos_token_ids = {kEos};
    options_.prefix_cache = false;  // prompts are alike
  }

  Scheduler& scheduler() {
    if (!scheduler_) scheduler_ = std::make_unique<Scheduler>(options_);
    return *scheduler_;
  }

  static Request Make(RequestId id, int32_t prompt, int32_t max_tokens,
                      std::shared_ptr<const Adapter> adapter = nullptr) {
    Request request;
    request.id = id;
    request.prompt.assign(prompt, 5);
    request.sampling.max_tokens = max_tokens;
    request.adapter = std::move(adapter);
    return request;
  }

  // Schedules a step. Loads what is wanted at once, and where nothing else is
  // to do schedules again.
  std::string Schedule() {
    now_ += std::chrono::milliseconds(1);
    scheduler().ClearEvents();
    scheduler().Schedule(now_);
    const bool loads = LoadSlots();
    if (loads && scheduler().batch().empty()) {
      scheduler().Schedule(now_);
      LoadSlots();
    }
    scheduler().CheckInvariants();
    const Batch& batch = scheduler().batch();
    if (!batch.empty()) in_flight_.push_back(&batch);
    return Render(batch);
  }

  // As if it had been used before.
  void Preload(const std::shared_ptr<const Adapter>& adapter) {
    SlotTable& slots = scheduler().slots();
    const auto lease = slots.Acquire(adapter);
    slots.BeginLoad(lease->slot());
    slots.EndLoad(lease->slot(), true);
  }

  bool LoadSlots() {
    for (const int32_t slot : scheduler().slots_to_load()) {
      scheduler().SlotLoaded(slot);
    }
    return !scheduler().slots_to_load().empty();
  }

  // The oldest step in flight samples `token` everywhere.
  std::string Update(int32_t token = 7, RequestId faulty = 0) {
    return Update([token](RequestId, int32_t) { return token; }, faulty);
  }

  // The same with token_of(id, i) as the i-th sample of a sequence.
  template <typename TokenOf>
  std::string Update(TokenOf token_of, RequestId faulty) {
    const Batch& batch = *in_flight_.front();
    StepOutput output;
    output.step = batch.step;
    for (const BatchSequence& s : batch.sequences) {
      auto& result = output.sequences.emplace_back();
      result.id = s.id;
      result.numeric_fault = s.id == faulty;
      result.begin = static_cast<int32_t>(output.sampled.size());
      const int32_t drafts = DraftsOf(s);
      // A draft may be at fault: without it that shows again.
      if (result.numeric_fault && drafts > 0) {
        result.numeric_fault = false;
        result.end = result.begin;
        continue;
      }
      for (int32_t o = s.output_begin; o < s.output_end; ++o) {
        const int32_t token = token_of(s.id, o - s.output_begin);
        output.sampled.emplace_back().token = token;
        if (drafts > 0 && o + 1 < s.output_end &&
            batch.tokens[batch.output_rows[o + 1]] != token) {
          break;
        }
      }
      result.end = static_cast<int32_t>(output.sampled.size());
    }
    in_flight_.erase(in_flight_.begin());
    scheduler().ClearEvents();
    scheduler().Update(output);
    scheduler().CheckInvariants();
    return Render(scheduler().events());
  }

  std::string Step(int32_t token = 7) {
    std::string line = Schedule();
    if (!in_flight_.empty()) Update(token);
    return line;
  }

  // What steps take where their time is told: 10 ms and 1 ms a row.
  static double TimeOf(int32_t rows) { return 0.010 + 0.001 * rows; }

  // A step whose time is told. Its rows; 0: there was none.
  int32_t TimedStep() {
    Schedule();
    if (in_flight_.empty()) return 0;
    const int32_t rows = scheduler().batch().rows();
    Update();
    scheduler().StepTook(TimeOf(rows));
    return rows;
  }

  SchedulerOptions options_;
  MonotonicTime now_{std::chrono::seconds(1)};
  std::vector<const Batch*> in_flight_;
  const std::shared_ptr<const Adapter> a_ = MakeFakeAdapter("a");
  const std::shared_ptr<const Adapter> b_ = MakeFakeAdapter("b");
  const std::shared_ptr<const Adapter> c_ = MakeFakeAdapter("c");
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace descant

#endif  // DESCANT_TESTS_RUNTIME_CORE_SCHEDULER_FIXTURE_H_
